"""The interface between a frontend and a session. The session's lines run on this node or on a remote one."""

from __future__ import annotations

from typing import Protocol

from erlmesh.shell.completion import Completion

__all__ = ["ShellSession"]


class ShellSession(Protocol):
    """A session. ``exit_code`` is None until the user leaves the shell or the session is lost."""

    exit_code: int | None

    @property
    def prompt(self) -> str:
        """The prompt of the next line."""
        ...

    @property
    def node_name(self) -> str:
        """The name of the node that runs the lines."""
        ...

    def is_complete(self, text: str) -> bool:
        """Return true if Enter ends the line: it can run, or its error cannot be fixed by more text."""
        ...

    async def run(self, text: str) -> None:
        """Run a complete line and print its result or error. Does not raise the line's exceptions."""
        ...

    def interrupt(self) -> None:
        """Stop the running line, if there is one. Signal handlers may call this."""
        ...

    async def completions(self, text_before_cursor: str) -> list[Completion]:
        """Return the completions at the end of ``text_before_cursor``."""
        ...

    def print_hint(self, text: str) -> None:
        """Print a hint."""
        ...
