"""Value classes: a decorator that makes a class of annotated fields, as ``dataclasses`` does, and starts faster.

``dataclasses`` generates the source of each class and compiles it when the class is made. That takes most of the time
of ``from erlmesh import Node``. Here the methods of all classes share their code: ``__init__`` is a function of this
file whose parameters and attributes get the names of the fields, the other methods are closures over the fields. An
instance takes no longer to create than one of a hand-written class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from types import CodeType, FunctionType
from typing import Any, Final, TypeAlias, TypeVar, cast, dataclass_transform, overload

__all__ = ["Field", "field", "fields", "record"]

T = TypeVar("T")
Init: TypeAlias = Callable[..., None]
Set: TypeAlias = Callable[[Any, Any], None]


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "<factory>"  # what a signature shows as the default of such a parameter


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
    if inherited and frozen != (cls.__setattr__ is _refuse_to_set):
        raise TypeError(f"{cls.__qualname__}: a record and its base are both frozen, or neither is")
    namespace = {name: value for name, value in vars(cls).items() if name not in own}
    for name in ("__dict__", "__weakref__"):  # descriptors of the class without slots
        namespace.pop(name, None)
    methods: dict[str, Any] = {
        "__slots__": tuple(name for name in own if name not in inherited),
        "__match_args__": tuple(each.name for each in found if not each.kw_only),
        _FIELDS: found,
    }
    compared = _getter([each.name for each in found if each.compare])
    if repr:
        methods["__repr__"] = _repr_of([each.name for each in found if each.repr])
    if eq:
        methods["__eq__"] = _eq_of(compared)
        methods["__hash__"] = None
    if hashable:
        methods["__hash__"] = _hash_of(compared)
    if frozen:
        methods |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
        methods |= {"__getstate__": _get_state, "__setstate__": _set_state}
    if "__eq__" in namespace and namespace.get("__hash__", 0) is None:
        del namespace["__hash__"]  # Python's answer to an __eq__ without a __hash__: the decorator decides instead
    made: Any = type(cls)(cls.__name__, cls.__bases__, {**methods, **namespace})  # type: ignore[misc] # a metaclass
    made.__qualname__ = cls.__qualname__
    if "__init__" not in namespace:
        made.__init__ = _init_of(made, found, frozen=frozen)
    return cast("type[T]", made)


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


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """A function that returns the attributes of an object as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda _: ()
    (name,) = names
    return lambda each: (getattr(each, name),)


def _repr_of(names: list[str]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:  # noqa: N807
        return f"{self.__class__.__qualname__}({', '.join([f'{name}={getattr(self, name)!r}' for name in names])})"

    return __repr__


def _eq_of(compared: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any, object], bool]:
    def __eq__(self: Any, other: object) -> bool:  # noqa: N807
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _hash_of(compared: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(compared(self))

    return __hash__


def _refuse_to_set(self: object, name: str, _value: object) -> None:
    raise AttributeError(f"cannot assign to {name!r}: a {type(self).__qualname__} is frozen")


def _refuse_to_delete(self: object, name: str) -> None:
    raise AttributeError(f"cannot delete {name!r}: a {type(self).__qualname__} is frozen")


def _get_state(self: Any) -> list[Any]:
    """For pickle and copy, which otherwise assign to each attribute."""
    return [getattr(self, each.name) for each in fields(type(self))]


def _set_state(self: Any, state: list[Any]) -> None:
    for each, value in zip(fields(type(self)), state, strict=True):
        object.__setattr__(self, each.name, value)


def _init_of(cls: type, found: tuple[Field, ...], *, frozen: bool) -> Init:
    ordered = [each for each in found if not each.kw_only] + [each for each in found if each.kw_only]
    names = tuple(each.name for each in ordered)
    setters = [getattr(cls, name).__set__ for name in names]
    if not frozen and len(names) < len(_ASSIGNING):
        init = _named(_ASSIGNING[len(names)], cls, ordered, co_names=names)
    elif len(names) < len(_SETTING):
        init = _named(_SETTING[len(names)](*setters), cls, ordered)
    else:
        init = _named(_set_many(dict(zip(names, setters, strict=True))), cls, ordered)
    factories = [
        (name, set_value, each.default_factory)
        for name, set_value, each in zip(names, setters, ordered, strict=True)
        if each.default_factory is not None
    ]
    post_init: Callable[[Any], None] | None = getattr(cls, "__post_init__", None)
    return init if post_init is None and not factories else _in_steps(init, factories, post_init)


def _named(template: Any, cls: type, ordered: list[Field], **changes: Any) -> FunctionType:
    """A copy of a template whose parameters have the names and the defaults of the fields."""
    code: CodeType = template.__code__
    if len(ordered) > _MOST_FIELDS:
        raise TypeError(f"{cls.__qualname__}: a record has at most {_MOST_FIELDS} fields")
    names = [each.name for each in ordered]
    keywords = sum(bool(each.kw_only) for each in ordered)
    changes |= {
        "co_argcount": 1 + len(names) - keywords,
        "co_kwonlyargcount": keywords,
        "co_varnames": ("self", *names, *code.co_varnames[1 + len(names) :]),
        "co_qualname": f"{cls.__qualname__}.__init__",
    }
    init = FunctionType(code.replace(**changes), globals(), "__init__", None, template.__closure__)
    positional = [each for each in ordered if not each.kw_only]
    given = [each.default for each in positional if each.has_default()]
    if not all(each.has_default() for each in positional[len(positional) - len(given) :]):
        raise TypeError(f"{cls.__qualname__}: a field without a default follows one with a default")
    init.__defaults__ = tuple(given)
    init.__kwdefaults__ = {each.name: each.default for each in ordered if each.kw_only and each.has_default()}
    init.__annotations__ = {**{each.name: each.annotation for each in ordered}, "return": None}
    return init


def _in_steps(
    init: Init,
    factories: list[tuple[str, Set, Callable[[], Any]]],
    post_init: Callable[[Any], None] | None,
) -> Init:
    """An ``__init__`` that also makes the defaults of an instance and calls ``__post_init__``."""

    def __init__(self: Any, *arguments: Any, **keywords: Any) -> None:  # noqa: N807
        init(self, *arguments, **keywords)
        for name, set_value, factory in factories:
            if getattr(self, name) is _MISSING:
                set_value(self, factory())
        if post_init is not None:
            post_init(self)

    __init__.__wrapped__ = init  # type: ignore[attr-defined] # for inspect.signature
    return __init__


# The templates of ``__init__``. The function of a record has the code of one of them, with other names. An assignment
# is as fast as in a hand-written class. A frozen record refuses assignments, so it calls the ``__set__`` of each slot.
# fmt: off


def _assign_0(self: Any) -> None:
    pass


def _assign_1(self: Any, _0: Any) -> None:
    self._0 = _0


def _assign_2(self: Any, _0: Any, _1: Any) -> None:
    self._0 = _0
    self._1 = _1


def _assign_3(self: Any, _0: Any, _1: Any, _2: Any) -> None:
    self._0 = _0
    self._1 = _1
    self._2 = _2


def _assign_4(self: Any, _0: Any, _1: Any, _2: Any, _3: Any) -> None:
    self._0 = _0
    self._1 = _1
    self._2 = _2
    self._3 = _3


def _assign_5(self: Any, _0: Any, _1: Any, _2: Any, _3: Any, _4: Any) -> None:
    self._0 = _0
    self._1 = _1
    self._2 = _2
    self._3 = _3
    self._4 = _4


def _assign_6(self: Any, _0: Any, _1: Any, _2: Any, _3: Any, _4: Any, _5: Any) -> None:
    self._0 = _0
    self._1 = _1
    self._2 = _2
    self._3 = _3
    self._4 = _4
    self._5 = _5


def _assign_7(self: Any, _0: Any, _1: Any, _2: Any, _3: Any, _4: Any, _5: Any, _6: Any) -> None:
    self._0 = _0
    self._1 = _1
    self._2 = _2
    self._3 = _3
    self._4 = _4
    self._5 = _5
    self._6 = _6


def _assign_8(self: Any, _0: Any, _1: Any, _2: Any, _3: Any, _4: Any, _5: Any, _6: Any, _7: Any) -> None:
    self._0 = _0
    self._1 = _1
    self._2 = _2
    self._3 = _3
    self._4 = _4
    self._5 = _5
    self._6 = _6
    self._7 = _7


def _assign_9(self: Any, _0: Any, _1: Any, _2: Any, _3: Any, _4: Any, _5: Any, _6: Any, _7: Any, _8: Any) -> None:
    self._0 = _0
    self._1 = _1
    self._2 = _2
    self._3 = _3
    self._4 = _4
    self._5 = _5
    self._6 = _6
    self._7 = _7
    self._8 = _8


def _set_0() -> Init:
    return _assign_0


def _set_1(set_0: Set) -> Init:
    def init(self: Any, _0: Any) -> None:
        set_0(self, _0)

    return init


def _set_2(set_0: Set, set_1: Set) -> Init:
    def init(self: Any, _0: Any, _1: Any) -> None:
        set_0(self, _0)
        set_1(self, _1)

    return init


def _set_3(set_0: Set, set_1: Set, set_2: Set) -> Init:
    def init(self: Any, _0: Any, _1: Any, _2: Any) -> None:
        set_0(self, _0)
        set_1(self, _1)
        set_2(self, _2)

    return init


def _set_4(set_0: Set, set_1: Set, set_2: Set, set_3: Set) -> Init:
    def init(self: Any, _0: Any, _1: Any, _2: Any, _3: Any) -> None:
        set_0(self, _0)
        set_1(self, _1)
        set_2(self, _2)
        set_3(self, _3)

    return init


def _set_5(set_0: Set, set_1: Set, set_2: Set, set_3: Set, set_4: Set) -> Init:
    def init(self: Any, _0: Any, _1: Any, _2: Any, _3: Any, _4: Any) -> None:
        set_0(self, _0)
        set_1(self, _1)
        set_2(self, _2)
        set_3(self, _3)
        set_4(self, _4)

    return init


def _set_many(_record_setters: dict[str, Set]) -> Init:
    def init(
        self: Any,
        _0: Any, _1: Any, _2: Any, _3: Any, _4: Any, _5: Any, _6: Any, _7: Any,
        _8: Any, _9: Any, _10: Any, _11: Any, _12: Any, _13: Any, _14: Any, _15: Any,
        _16: Any, _17: Any, _18: Any, _19: Any, _20: Any, _21: Any, _22: Any, _23: Any,
    ) -> None:
        # The names of these variables must not be those of fields.
        _record_values = locals()
        for _record_name, _record_set in _record_setters.items():
            _record_set(self, _record_values[_record_name])

    return init


# fmt: on
_ASSIGNING: Final = (
    _assign_0,
    _assign_1,
    _assign_2,
    _assign_3,
    _assign_4,
    _assign_5,
    _assign_6,
    _assign_7,
    _assign_8,
    _assign_9,
)
_SETTING: Final[tuple[Callable[..., Init], ...]] = (_set_0, _set_1, _set_2, _set_3, _set_4, _set_5)
_MOST_FIELDS: Final = 24
