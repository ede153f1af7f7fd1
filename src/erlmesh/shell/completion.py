"""Tab completion: names and attributes of live objects, node names in strings, groups and modules after ":"."""

from __future__ import annotations

import builtins
import inspect
import keyword
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from erlmesh.records import record
from erlmesh.shell.commands import is_command

__all__ = ["Completion", "LiveNames", "complete"]

_QUOTED: Final = re.compile(r""":?["']([^"'\\\n]*)$""")
_ATOM: Final = re.compile(r"(?:^|[\s(\[{,=]):([A-Za-z_][\w@]*)?$")
_DOTTED: Final = re.compile(r":?((?:[^\W\d]\w*\.)*)([^\W\d]\w*)?$")
_MODULES: Final = ("pg", "pg2", "global", "rpc", "erpc", "net_adm", "erlang", "gen_server")


@record(frozen=True)
class Completion:
    """One completion: ``text`` replaces the last ``replace_length`` characters before the cursor.

    ``display`` is the text in the menu.
    """

    text: str
    replace_length: int
    display: str


@record(frozen=True)
class LiveNames:
    """Functions that return the node names and atoms known now. They are called at each Tab."""

    nodes: Callable[[], Iterable[str]]
    atoms: Callable[[], Iterable[str]]


def complete(text_before_cursor: str, namespace: Mapping[str, Any], live_names: LiveNames) -> list[Completion]:
    """Return the completions at the cursor, sorted by name. Never runs code that the user typed."""
    if _in_string(text_before_cursor) and (match := _QUOTED.search(text_before_cursor)):
        return _matching(match[1], live_names.nodes())
    if match := _ATOM.search(text_before_cursor):
        return _matching(match[1] or "", [*_MODULES, *live_names.atoms()])
    match = _DOTTED.search(text_before_cursor)
    if match is None or not match.group():
        return []
    owners, start = match[1].rstrip("."), match[2] or ""
    if owners:
        found, owner = _resolve(owners.split("."), namespace)
        return _matching(start, _attributes(owner), owner) if found else []
    names = {*namespace, *dir(builtins), *keyword.kwlist}
    return _matching(start, names, namespace) if start else []


def _in_string(text_before_cursor: str) -> bool:
    line = text_before_cursor.rpartition("\n")[2]
    quote = ""
    for previous, char in zip(" " + line, line, strict=False):
        if quote:
            if char == quote and previous != "\\":
                quote = ""
        elif char in "\"'":
            quote = char
        elif char == "#":
            return False
    return bool(quote)


def _resolve(names: list[str], namespace: Mapping[str, Any]) -> tuple[bool, Any]:
    """Return (True, the object with that dotted name), or (False, None). Does not run properties."""
    first, *rest = names
    name = {"global": "global_"}.get(first, first)
    if name not in namespace and not hasattr(builtins, name):
        return False, None
    value = namespace[name] if name in namespace else getattr(builtins, name)
    for name in rest:
        try:
            static = inspect.getattr_static(value, name)
        except AttributeError:
            return False, None
        # A property would run code, so completion stops at the property object itself.
        value = static if isinstance(static, property) else getattr(value, name, None)
    return True, value


def _attributes(owner: Any) -> list[str]:
    names = dir(owner)
    commands = [name for name in names if not name.startswith("_") and is_command(_static_attribute(owner, name))]
    return commands or names


def _static_attribute(owner: Any, name: str) -> Any:
    static = inspect.getattr_static(owner, name, None)
    return None if isinstance(static, property) else static


def _matching(start: str, names: Iterable[str], owner: Any = None) -> list[Completion]:
    found = []
    for name in sorted(set(names)):
        if not name.startswith(start) or (name.startswith("_") and not start.startswith("_")):
            continue
        if isinstance(owner, Mapping):
            value = owner.get(name, getattr(builtins, name, None))
        else:
            value = None if owner is None else _static_attribute(owner, name)
        call = is_command(value) or inspect.isroutine(value)
        found.append(Completion(name + ("(" if call else ""), len(start), name))
    return found
