"""Say in one sentence what an error of a typed line means, with what to type instead."""

from __future__ import annotations

import builtins
import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from erlmesh.shell.commands import Module, commands_of, is_command
from erlmesh.shell.elixir_hints import module_hint, operator_hint
from erlmesh.shell.function_hints import function_hint

__all__ = ["explain"]

_CALL: Final = re.compile(r"^(?:\w+\.)*?(\w+)\.(\w+)\(\) (.*)$", re.DOTALL)


def explain(error: BaseException, source: str, namespace: Mapping[str, Any]) -> str | None:
    """Return the message to print in place of that of ``error``; None if its own is best."""
    match error:
        case NameError() if isinstance(error.name, str):
            return _unknown_name(error.name, source, namespace)
        case AttributeError() if isinstance(error.obj, Module):
            return _unknown_function(error.obj, str(error.name), namespace)
        case TypeError():
            return _wrong_call(str(error), namespace) or operator_hint(source)
    return None


def _unknown_name(name: str, source: str, namespace: Mapping[str, Any]) -> str:
    text = f"name '{name}' is not defined"
    if hint := module_hint(name):
        return f"{text}: {hint}"
    if re.search(rf":{re.escape(name)}\.", source):
        return f'{text}: a module of Erlang is called on a BEAM: :erpc.call(:"plato@10.0.0.3", :{name}, :function, [])'
    return text + _similar(name, [*namespace, *dir(builtins)])


def _similar(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, [each for each in known if not each.startswith("_")], 1, 0.75)
    return f". Did you mean {found[0]}?" if found else ""


def _unknown_function(module: Module, name: str, namespace: Mapping[str, Any]) -> str:
    owner = _name_of(module, namespace)
    known = commands_of(module)
    if hint := function_hint(owner, name):
        return f"{owner} has no function {name} here: {hint}"
    return f"{owner} has no function {name}{_similar(name, known)}. It has: {', '.join(known)}"


def _name_of(value: object, namespace: Mapping[str, Any]) -> str:
    found = next((name for name, each in namespace.items() if each is value), type(value).__name__)
    return {"global_": ":global"}.get(found, found)


def _wrong_call(message: str, namespace: Mapping[str, Any]) -> str | None:
    """Replace the name of a method of this shell by the command, with its arguments."""
    match = _CALL.match(message)
    if match is None:
        return None
    owner, name, rest = match.groups()
    for shown, value in namespace.items():
        is_owner = isinstance(value, Module) and type(value).__name__ == owner
        function = getattr(value, name, None) if is_owner else value if owner == "Builtins" and shown == name else None
        if is_command(function):
            assert callable(function)
            parameters = [each for each in inspect.signature(function).parameters if not each.startswith("_")]
            typed = f"{_name_of(value, namespace)}.{name}" if is_owner else name
            return f"{typed}({', '.join(parameters)}): {rest}"
    return None
