"""Mark functions as commands of the shell, and look up how the parser must treat their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from typing import Any, Final, TypeVar

from erlmesh.shell.parser import NOT_A_COMMAND, UNKNOWN_COMMAND, CommandSyntax

__all__ = ["Module", "command", "commands_of", "is_command", "syntax_lookup"]

_MISSING: Final = object()

F = TypeVar("F", bound=Callable[..., Any])


def command(*, implicit_call: bool = False, quoted_arguments: bool = False) -> Callable[[F], F]:
    """Mark a method as a command. The arguments are fields of :class:`erlmesh.shell.parser.CommandSyntax`."""

    def mark(function: F) -> F:
        function.__erlmesh_command__ = CommandSyntax(implicit_call, iscoroutinefunction(function), quoted_arguments)  # type: ignore[attr-defined]
        return function

    return mark


class Module:
    """A namespace of commands, such as ``Node`` or ``pg2``. The commands are its public methods."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(sorted(commands_of(self)))}>"


def is_command(value: object) -> bool:
    """Return true if ``value`` is a command itself, not the result of one."""
    return callable(value) and isinstance(getattr(value, "__erlmesh_command__", None), CommandSyntax)


def commands_of(owner: object) -> dict[str, Callable[..., Any]]:
    """Return the commands of ``owner`` by name: its methods, and commands of other objects stored as attributes."""
    found = {name: value for name, value in vars(owner).items() if is_command(value)}
    found |= {name: getattr(owner, name) for name in dir(type(owner)) if is_command(getattr(type(owner), name))}
    return dict(sorted(found.items()))


def syntax_lookup(namespace: Mapping[str, Any]) -> Callable[[str], CommandSyntax]:
    """Return a function that gives the syntax of a dotted name.

    A name that the user has bound to another value is not a command any more.
    """

    def lookup(dotted: str) -> CommandSyntax:
        first, *rest = dotted.split(".")
        value = namespace.get(first)
        for name in rest:
            if not isinstance(value, Module):
                return NOT_A_COMMAND
            value = getattr(value, name, _MISSING)
        if value is _MISSING:
            return UNKNOWN_COMMAND
        return value.__erlmesh_command__ if is_command(value) else NOT_A_COMMAND  # type: ignore[union-attr]

    return lookup
