"""Value classes: a decorator that makes a class of annotated fields, as ``dataclasses`` does, and starts faster.

``dataclasses`` compiles several methods of each class when the class is made. That takes most of the time of
``from erlmesh import Node``. Here the methods are closures over the fields, except for ``__init__``. Its source is
generated and compiled when the first instance is made, so it is as fast as a hand-written one and costs nothing in a
program that does not use the class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final, TypeAlias, TypeVar, cast, dataclass_transform, overload

__all__ = ["Field", "field", "fields", "record"]

T = TypeVar("T")
Getter: TypeAlias = Callable[[Any], tuple[Any, ...]]


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "<factory>"  # what a signature shows as the default of a field with a factory


_MISSING: Final = _Missing()
_FIELDS: Final = "__record_fields__"


class Field:
    """One field of a record."""

    __slots__ = ("annotation", "compare", "default", "default_factory", "kw_only", "metadata", "name", "repr")

    def __init__(
        self,
        default: Any,
        default_factory: Callable[[], Any] | None,
        *,
        repr: bool,
        compare: bool,
        kw_only: bool | None,
        metadata: Mapping[str, Any],
    ) -> None:
        self.name = ""
        self.annotation: Any = None
        self.default = default
        self.default_factory = default_factory
        self.repr = repr
        self.compare = compare
        self.kw_only = kw_only
        self.metadata = metadata

    def has_default(self) -> bool:
        return self.default is not _MISSING or self.default_factory is not None


def field(
    *,
    default: Any = _MISSING,
    default_factory: Callable[[], Any] | None = None,
    repr: bool = True,
    compare: bool = True,
    kw_only: bool | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Any:
    """A field that is not plain: the value of its annotation in the class body.

    ``default_factory()`` makes the default of each instance. Without ``repr`` the field is not printed; without
    ``compare`` it does not count for ``==`` and ``hash``. ``kw_only`` None is what the decorator says. ``metadata`` is
    for the caller of :func:`fields`.
    """
    return Field(default, default_factory, repr=repr, compare=compare, kw_only=kw_only, metadata=metadata or {})


def fields(cls: type) -> tuple[Field, ...]:
    """The fields of a record, in their order; those of its bases first. Raises TypeError if it is not a record."""
    try:
        found: tuple[Field, ...] = getattr(cls, _FIELDS)
    except AttributeError:
        raise TypeError(f"{cls!r} is not a record") from None
    return found


@overload
def record(cls: type[T], /) -> type[T]: ...


@overload
def record(
    *, frozen: bool = False, eq: bool = True, unsafe_hash: bool = False, repr: bool = True, kw_only: bool = False
) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(field_specifiers=(field,))
def record(
    cls: type[T] | None = None,
    /,
    *,
    frozen: bool = False,
    eq: bool = True,
    unsafe_hash: bool = False,
    repr: bool = True,
    kw_only: bool = False,
) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a class a record: slots, ``__init__``, ``==``, ``hash``, ``repr`` and ``__match_args__`` from its fields.

    Every annotation of the class body is a field. A method that the class body defines is kept. ``__post_init__`` is
    called at the end of ``__init__``. Two records are equal if they are of the same class and their fields are equal.

    The meaning of the arguments is that of ``dataclasses.dataclass(slots=True)``. A record that has ``eq`` is hashable
    if it is ``frozen``, or with ``unsafe_hash``. An assignment to a frozen one raises AttributeError.

    The result is a new class. So ``super()`` without arguments does not work in its methods.
    """

    def make(cls: type[T]) -> type[T]:
        return _make(cls, frozen=frozen, eq=eq, hashable=unsafe_hash or (eq and frozen), repr=repr, kw_only=kw_only)

    return make if cls is None else make(cls)


def _make(cls: type[T], *, frozen: bool, eq: bool, hashable: bool, repr: bool, kw_only: bool) -> type[T]:
    own = _own_fields(cls, kw_only=kw_only)
    inherited = {each.name: each for each in getattr(cls, _FIELDS, ())}
    found = tuple({**inherited, **own}.values())
    if inherited and frozen != (cls.__setattr__ is _refuse):
        raise TypeError(f"{cls.__qualname__}: a record and its base are both frozen, or neither is")
    defaults = [each.has_default() for each in found if not each.kw_only]
    if defaults != sorted(defaults):
        raise TypeError(f"{cls.__qualname__}: a field without a default follows one with a default")
    written = {name: value for name, value in vars(cls).items() if name not in own}
    for name in ("__dict__", "__weakref__"):  # descriptors of the class without slots
        written.pop(name, None)
    if "__eq__" in written and written["__hash__"] is None:
        del written["__hash__"]  # Python sets it for an __eq__ without a __hash__; the decorator decides instead
    init = _InitOnDemand(found, frozen=frozen)
    compared = _getter([each.name for each in found if each.compare])
    made: dict[str, Any] = {
        "__slots__": tuple(name for name in own if name not in inherited),
        "__match_args__": tuple(each.name for each in found if not each.kw_only),
        "__init__": init,
        _FIELDS: found,
    }
    if repr:
        made["__repr__"] = _repr_of([each.name for each in found if each.repr])
    if eq:
        made |= {"__eq__": _eq_of(compared), "__hash__": None}
    if hashable:
        made["__hash__"] = _hash_of(compared)
    if frozen:
        made |= {"__setattr__": _refuse, "__delattr__": _refuse, "__setstate__": _set_state}
    init.cls = type(cls)(cls.__name__, cls.__bases__, {**made, **written})  # type: ignore[misc] # a metaclass
    init.cls.__qualname__ = cls.__qualname__
    return cast("type[T]", init.cls)


def _own_fields(cls: type, *, kw_only: bool) -> dict[str, Field]:
    found: dict[str, Field] = {}
    for name, annotation in cls.__annotations__.items():
        if "ClassVar" in str(annotation):
            raise TypeError(f"{cls.__qualname__}.{name}: every annotation of a record is a field")
        value = vars(cls).get(name, _MISSING)
        each = value if isinstance(value, Field) else field(default=value)
        if type(each.default).__hash__ is None:
            raise TypeError(f"{cls.__qualname__}.{name}: all instances would share this default; use default_factory")
        each.name = name
        each.annotation = annotation
        each.kw_only = kw_only if each.kw_only is None else each.kw_only
        found[name] = each
    return found


class _InitOnDemand:
    """The ``__init__`` of a record until somebody gets it. Then the generated function takes its place.

    The call of a class gets ``__init__`` from it, and so do ``inspect.signature`` and ``help``.
    """

    __slots__ = ("cls", "fields", "frozen")

    def __init__(self, fields: tuple[Field, ...], *, frozen: bool) -> None:
        self.cls: Any = None
        self.fields = fields
        self.frozen = frozen

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        init = _generate_init(self.cls, self.fields, frozen=self.frozen)
        self.cls.__init__ = init
        return init.__get__(instance, owner)


def _generate_init(cls: type, found: tuple[Field, ...], *, frozen: bool) -> Any:
    """Compile an ``__init__``. Its source contains only names of fields; their defaults are global variables of it.

    A frozen record refuses assignments, so its ``__init__`` calls the ``__set__`` of each slot.
    """
    parameters, body = ["self"], []
    variables: dict[str, Any] = {"_MISSING": _MISSING}
    for each in sorted(found, key=lambda each: bool(each.kw_only)):
        name = value = each.name
        if each.kw_only and "*" not in parameters:
            parameters.append("*")
        parameters.append(f"{name}=_default_{name}" if each.has_default() else name)
        if each.default_factory is not None:
            value = f"_make_{name}() if {name} is _MISSING else {name}"
        body.append(f"_set_{name}(self, {value})" if frozen else f"self.{name} = {value}")
        variables[f"_default_{name}"] = each.default
        variables[f"_make_{name}"] = each.default_factory
        variables[f"_set_{name}"] = getattr(cls, name).__set__
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    lines = [f"def __init__({', '.join(parameters)}):", *(body or ["pass"])]
    exec("\n ".join(lines), variables)  # noqa: S102 - a source that contains only names of fields
    init = variables["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__module__ = cls.__module__
    init.__annotations__ = {**{each.name: each.annotation for each in found}, "return": None}
    return init


def _getter(names: list[str]) -> Getter:
    """A function that returns the attributes of an object as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda each: tuple([getattr(each, name) for name in names])


def _repr_of(names: list[str]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:  # noqa: N807
        return f"{self.__class__.__qualname__}({', '.join([f'{name}={getattr(self, name)!r}' for name in names])})"

    return __repr__


def _eq_of(compared: Getter) -> Callable[[Any, object], bool]:
    def __eq__(self: Any, other: object) -> bool:  # noqa: N807
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _hash_of(compared: Getter) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(compared(self))

    return __hash__


def _refuse(self: object, name: str, *_value: object) -> None:
    raise AttributeError(f"cannot change {name!r}: a {type(self).__qualname__} is frozen")


def _set_state(self: object, state: tuple[None, dict[str, Any]]) -> None:
    """For pickle and copy, which otherwise assign to each attribute."""
    for name, value in state[1].items():
        object.__setattr__(self, name, value)
