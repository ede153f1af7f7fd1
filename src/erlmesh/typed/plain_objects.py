"""UUIDs, paths and IP addresses ↔ the binaries and tuples that Elixir and Erlang use for them.

Their modules are not imported here, because few programs need them. Their classes are known by their names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from erlmesh.errors import EncodeError
from erlmesh.terms import Term

__all__ = ["object_to_term", "reader_of", "uuid_text"]

_UUID_BYTES: Final = 16
_HELP: Final = {
    "builtins.BaseException": "send its text, or an ElixirException",
    "builtins.complex": "send a tuple of two floats",
    "ipaddress._BaseNetwork": "send its text, str(value)",
    "ipaddress.IPv4Interface": "send its text, str(value)",
    "ipaddress.IPv6Interface": "send its text, str(value)",
    "collections.deque": "send list(value)",
}
"""What to send instead, by the name of a base class."""


def object_to_term(value: Any, path: str) -> Term:
    """Return the term for a UUID, a path or an IP address. Raises EncodeError for an object of any other class."""
    names = _names(type(value))
    advice = next((_HELP[name] for name in names if name in _HELP), "")
    convert = next((_OBJECTS[name] for name in names if name in _OBJECTS), None)
    if convert is not None and not advice:
        return convert(value)
    if hasattr(value, "__fspath__"):  # os.PathLike; a name that is not UTF-8 has surrogates (PEP 383)
        file: str | bytes = value.__fspath__()
        return file.encode("utf-8", "surrogateescape") if isinstance(file, str) else file
    if not advice:
        advice = "send list(value)" if hasattr(value, "__next__") else "send a dataclass, or terms"
    raise EncodeError(f"{names[0]} is not an Erlang term: {advice} - at `{path}`")


def _names(cls: type) -> list[str]:
    """Return the names of a class and of its bases, with their modules."""
    return [f"{each.__module__}.{each.__qualname__}" for each in cls.__mro__]


def _address_to_term(value: Any) -> Term:
    """``inet:ip_address()``: a tuple of four bytes, or of eight 16-bit numbers. Raises ValueError for a scope id."""
    packed: bytes = value.packed
    if value.version == 4:
        return tuple(packed)
    if value.scope_id is not None:
        raise ValueError("an address of Erlang has no scope: send str(address)")
    return tuple(packed[index] << 8 | packed[index + 1] for index in range(0, 16, 2))


def uuid_text(term: bytes) -> str:
    """Return the text of a UUID, also from its 16 bytes, as ``Ecto.UUID.dump/1`` makes them. Raises ValueError."""
    if len(term) != _UUID_BYTES:
        return term.decode()
    digits = term.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def reader_of(cls: type) -> Callable[[type, Any], Any] | None:
    """Return the function that makes a ``cls`` of a binary or a tuple, and raises ValueError. None if it has none."""
    names = _names(cls)
    if names[0] in _ADDRESSES:
        return _address_from_term
    # Python 3.13 has the classes of paths in `pathlib._local`.
    return _path_from_term if any(name.startswith("pathlib.") for name in names) else None


def _path_from_term(cls: type, term: Term) -> Any:
    if not isinstance(term, bytes):
        raise ValueError("it is not a binary")  # noqa: TRY004 - the type is the fault of the term
    return cls(term.decode("utf-8", "surrogateescape"))


def _address_from_term(cls: type, term: Term) -> Any:
    if isinstance(term, bytes):
        return cls(term.decode())
    limit, width = (255, 1) if len(term) == 4 else (65_535, 2)
    if len(term) not in (4, 8) or not all(type(number) is int and 0 <= number <= limit for number in term):
        raise ValueError("it is not a tuple of 4 bytes or of 8 numbers of 16 bits")
    return cls(b"".join(number.to_bytes(width, "big") for number in term))


_ADDRESSES: Final = ("ipaddress.IPv4Address", "ipaddress.IPv6Address")
_OBJECTS: Final[dict[str, Callable[[Any], Term]]] = {"uuid.UUID": str, **dict.fromkeys(_ADDRESSES, _address_to_term)}
