"""Terms → Python values of a type that the caller names. msgspec checks the values and builds the objects.

A term alone does not say what a Python user wants: a binary may be text or bytes, ``nil`` may be ``None`` or an atom.
The type says it. So a term is first translated under the guidance of its type (:mod:`erlmesh.typed.translators`), and
then ``msgspec.convert`` checks it against the type, with all constraints that the type has.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, overload

from erlmesh.terms import Term
from erlmesh.typed.convert_error import ConvertError

__all__ = ["ConvertError", "from_term"]

T = TypeVar("T")


@overload
def from_term(term: Term, type: type[T]) -> T: ...
@overload
def from_term(term: Term, type: Any) -> Any: ...
def from_term(term: Term, type: Any) -> Any:
    """Return the value of ``type`` that the term stands for; the other direction of :func:`erlmesh.typed.to_term`.

    ``type`` is a dataclass, a ``msgspec.Struct``, or any type that msgspec knows: ``int``, ``str``, ``datetime``,
    ``Decimal``, ``list[Order]``, ``dict[str, int]``, ``tuple[int, str]``, ``str | None``,
    ``Annotated[int, Meta(gt=0)]``. Also ``range``, ``Path``, ``IPv4Address``, ``IPv6Address``, ``ElixirException`` and
    the classes of terms (``Atom``, ``Pid``, ``Ref``, ``Map`` …).

    * ``str``: a binary with UTF-8. ``bytes``: a binary. An atom is neither.
    * ``None``: the atom ``nil``. ``X | None``: ``nil`` or an X.
    * ``dict``: a map or a keyword list. Keys that are atoms may be asked for as ``str``.
    * a class: the struct that :func:`erlmesh.typed.elixir_struct` names; without that, any map or keyword list with
      atoms or strings as keys. Unknown fields are dropped, unless ``rest=`` keeps them, or msgspec's
      ``forbid_unknown_fields=True`` refuses them.
    * ``Enum`` and ``Literal`` with texts: the atom or the binary of that text.

    Raises ConvertError if the term does not fit, TypeError if ``type`` is not a type that can be converted to, and
    ImportError without msgspec (``pip install 'erlmesh[typed]'``).
    """
    return _converter(type)(term)


@cache
def _converter(type: Any) -> Any:
    try:
        from erlmesh.typed.translators import Converter  # noqa: PLC0415 - only this direction needs msgspec
    except ImportError as error:
        raise ImportError("from_term needs msgspec: pip install 'erlmesh[typed]'") from error
    return Converter(type)
