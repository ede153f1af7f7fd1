"""Say in one sentence what an error of a typed line means, with what to type instead."""

from __future__ import annotations

import builtins
import difflib
import inspect
import re
import traceback
from collections.abc import Iterable, Mapping
from typing import Any, Final

from erlmesh.shell.commands import Module, commands_of, is_command
from erlmesh.shell.elixir_hints import access_hint, module_hint, module_value_hint, operator_hint
from erlmesh.shell.elixir_syntax import code_of
from erlmesh.shell.function_hints import function_hint
from erlmesh.terms import Map

__all__ = ["explain"]

_MAPPINGS: Final = (dict, Map)
_CALL: Final = re.compile(r"^(?:\w+\.)*?(\w+)\.(\w+)\(\) (.*)$", re.DOTALL)


def explain(error: BaseException, source: str, namespace: Mapping[str, Any], commands: Mapping[str, Any]) -> str | None:
    """Return the message to print in place of that of ``error``; None if its own is best.

    ``commands`` are the names of the shell before the user has bound some of them.
    """
    match error:
        case NameError() if isinstance(error.name, str):
            return _unknown_name(error.name, source, _typed_line(error), namespace)
        case AttributeError() if isinstance(error.obj, Module):
            return _unknown_function(error.obj, str(error.name), namespace)
        case AttributeError() if isinstance(error.obj, _MAPPINGS) and _is_field(str(error.name), source):
            return f"{error}: `map.{error.name}` is `map[:{error.name}]` in this shell"
        case AttributeError() | TypeError() if hidden := _hidden_command(error, source, namespace, commands):
            return f"{error}: `{hidden}` is a variable here. `del {hidden}` brings the command back"
        case TypeError():
            return _wrong_call(str(error), namespace) or operator_hint(source)
    return None


def _unknown_name(name: str, source: str, line: str, namespace: Mapping[str, Any]) -> str:
    text = f"name '{name}' is not defined"
    if hint := module_value_hint(name, source) or module_hint(name, source) or access_hint(name, line):
        return f"{text}: {hint}"
    if re.search(rf":{re.escape(name)}\.", source):
        return f'{text}: a module of Erlang is called on a BEAM: :erpc.call(:"plato@10.0.0.3", :{name}, :function, [])'
    return text + _similar(name, [*namespace, *dir(builtins)])


def _is_field(name: str, source: str) -> bool:
    """Return whether ``source`` reads the attribute ``name``, and does not call it."""
    return re.search(rf"\.{re.escape(name)}\b(?!\s*\()", code_of(source)) is not None


def _hidden_command(
    error: TypeError | AttributeError, source: str, namespace: Mapping[str, Any], commands: Mapping[str, Any]
) -> str | None:
    """Return a command that ``source`` calls, or a module that it uses, if a variable of the same name hides it."""
    is_call = isinstance(error, TypeError)
    if is_call and "is not callable" not in str(error):
        return None
    for name in re.findall(rf"(?<![\w.])([A-Za-z_]\w*)\s*{'[(]' if is_call else '[.]'}", code_of(source)):
        value, hidden = namespace.get(name), commands.get(name)
        fits = is_command(hidden) if is_call else isinstance(hidden, Module)
        if fits and value is not hidden and not callable(value):
            return str(name)
    return None


def _typed_line(error: BaseException) -> str:
    """Return the line of a function that has raised ``error``; it may be typed earlier than the line that runs."""
    frames = traceback.extract_tb(error.__traceback__)
    return (frames[-1].line or "") if frames else ""


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
    plain = found.strip("_") if found.startswith("__") else found  # the hidden name of a module in `:pg.join`
    return {"global_": ":global", "global": ":global"}.get(plain, plain)


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
