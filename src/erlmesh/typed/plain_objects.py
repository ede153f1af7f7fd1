"""UUIDs, paths and IP addresses ↔ the binaries and tuples that Elixir and Erlang use for them.

Their modules are not imported here: a program that has such a value, or names such a type, has loaded them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from erlmesh.errors import EncodeError
from erlmesh.terms import Term

__all__ = ["address_from_term", "object_to_term", "path_from_term", "text_types", "uuid_from_term"]

_UUID_BYTES: Final = 16
_HELP: Final = {
    "BaseException": "send its text, or an ElixirException",
    "complex": "send a tuple of two floats",
    "_BaseNetwork": "send its text, str(network)",
    "deque": "send list(value)",
    "Iterator": "send list(value)",
}
"""What to send instead, by the name of a base class."""


def object_to_term(value: Any, path: str) -> Term:
    """Return the term for a UUID, a path or an IP address. Raises EncodeError for an object of any other class."""
    for name, convert in _OBJECTS.items():
        cls = _loaded(name)
        if cls is not None and isinstance(value, cls):
            return convert(value)
    if hasattr(value, "__fspath__"):  # os.PathLike; a name that is not UTF-8 has surrogates (PEP 383)
        name: str | bytes = value.__fspath__()
        return name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    names = [cls.__name__ for cls in type(value).__mro__] + (["Iterator"] if hasattr(value, "__next__") else [])
    advice = next((_HELP[name] for name in names if name in _HELP), "send a dataclass, or terms")
    kind = type(value)
    raise EncodeError(f"{kind.__module__}.{kind.__qualname__} is not an Erlang term: {advice} - at `{path}`")


def _address_to_term(value: Any) -> Term:
    """``inet:ip_address()``: a tuple of four bytes, or of eight 16-bit numbers. Raises ValueError for a scope id."""
    packed: bytes = value.packed
    if value.version == 4:
        return tuple(packed)
    if value.scope_id is not None:
        raise ValueError("an address of Erlang has no scope: send str(address)")
    return tuple(packed[index] << 8 | packed[index + 1] for index in range(0, 16, 2))


def uuid_from_term(term: bytes) -> Any:
    """Return the UUID of its text, or of its 16 bytes (Ecto's ``Ecto.UUID.dump/1``). Raises ValueError."""
    cls = _loaded("uuid.UUID")
    return cls(bytes=term) if len(term) == _UUID_BYTES else cls(term.decode())


def path_from_term(cls: type, term: bytes) -> Any:
    """Return the path. File names that are not UTF-8 are read as Python reads them (PEP 383)."""
    return cls(term.decode("utf-8", "surrogateescape"))


def address_from_term(cls: type, term: Term) -> Any:
    """Return the IP address of its text, or of a tuple. Raises ValueError."""
    if isinstance(term, bytes):
        return cls(term.decode())
    assert isinstance(term, tuple)
    limit, width = (255, 1) if len(term) == 4 else (65_535, 2)
    if len(term) not in (4, 8) or not all(type(number) is int and 0 <= number <= limit for number in term):
        raise ValueError("it is not a tuple of 4 bytes or of 8 numbers of 16 bits")
    return cls(b"".join(number.to_bytes(width, "big") for number in term))


def text_types(cls: type) -> Callable[[type, Any], Any] | None:
    """Return the reader for a class of this module that msgspec does not know; None for any other class."""
    if any(cls is _loaded(name) for name in ("ipaddress.IPv4Address", "ipaddress.IPv6Address")):
        return address_from_term
    pure_path = _loaded("pathlib.PurePath")
    return path_from_term if pure_path is not None and issubclass(cls, pure_path) else None


def _loaded(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), attribute, None)


_OBJECTS: Final[dict[str, Callable[[Any], Term]]] = {
    "uuid.UUID": str,
    "ipaddress.IPv4Address": _address_to_term,
    "ipaddress.IPv6Address": _address_to_term,
}
