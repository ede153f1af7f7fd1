"""Which Python class stands for which Elixir struct."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, get_origin

from erlmesh.records import record
from erlmesh.terms import Atom

__all__ = ["STRUCT", "StructOptions", "elixir_struct", "module_atom", "module_name", "struct_options"]

STRUCT: Final = Atom("__struct__")
_OPTIONS: Final = "__elixir_struct__"

ClassT = TypeVar("ClassT", bound=type)


@record(frozen=True)
class StructOptions:
    """``module`` is the Elixir module. ``rest`` is the field that gets the unknown fields of the struct, or None."""

    module: Atom
    rest: str | None


def module_atom(name: str | Atom) -> Atom:
    """Return the atom of an Elixir module. ``"Shop.Order"`` and ``"Elixir.Shop.Order"`` are the same module."""
    text = name.name if isinstance(name, Atom) else name
    return Atom(text if text.startswith("Elixir.") else f"Elixir.{text}")


def module_name(atom: Atom) -> str:
    """Return the name as Elixir writes it, ``Shop.Order``."""
    return atom.name.removeprefix("Elixir.")


def elixir_struct(module: str, *, rest: str | None = None) -> Callable[[ClassT], ClassT]:
    """Let a class stand for an Elixir struct. ::

        @elixir_struct("Shop.Order")
        @dataclass
        class Order:
            id: int
            customer: str

    The class is a dataclass or a ``msgspec.Struct``. Each field has the name of the struct's field. Elixir requires all
    fields of a struct, so the class must have all of them; or it names with ``rest`` a field, a ``dict[Atom, Any]``,
    that keeps those which the class does not have, so that they go back unchanged.

    A ``msgspec.Struct`` may also say it with its tag: ``class Order(Struct, tag_field="__struct__",
    tag="Elixir.Shop.Order")``. Several such classes may stand in one union type.
    """

    def decorate(cls: ClassT) -> ClassT:
        setattr(cls, _OPTIONS, StructOptions(module_atom(module), rest))
        return cls

    return decorate


def struct_options(cls: type) -> StructOptions | None:
    """Return what :func:`elixir_struct` or the tag of a ``msgspec.Struct`` says; None for any other class."""
    cls = get_origin(cls) or cls  # of `Box[int]`, the class `Box`
    options = cls.__dict__.get(_OPTIONS)  # not inherited: a subclass is another struct
    if isinstance(options, StructOptions):
        return options
    config: Any = getattr(cls, "__struct_config__", None)
    if config is not None and config.tag_field == STRUCT.name and isinstance(config.tag, str):
        return StructOptions(module_atom(config.tag), None)
    return None
