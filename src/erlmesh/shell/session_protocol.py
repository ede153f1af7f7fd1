"""What a front needs of a session, whether its lines run in this program or in another."""

from __future__ import annotations

from typing import Protocol

from erlmesh.shell.completion import Completion

__all__ = ["ShellSession"]


class ShellSession(Protocol):
    """``left`` is the exit code once somebody has asked to leave, or the session was lost."""

    exit_code: int | None

    @property
    def prompt(self) -> str:
        """What stands before the line to be typed next."""
        ...

    @property
    def node_name(self) -> str:
        """The node whose prompt it is."""
        ...

    def is_complete(self, text: str) -> bool:
        """Whether Enter ends the line here."""
        ...

    async def run(self, text: str) -> None:
        """Runs a whole line and prints what it gives; it raises nothing of the line's own."""
        ...

    def interrupt(self) -> None:
        """Stops the line that runs, if there is one. May be called by a signal handler."""
        ...

    async def completions(self, text_before_cursor: str) -> list[Completion]:
        """What Tab offers for a line whose text up to the cursor is ``before``."""
        ...

    def print_hint(self, text: str) -> None:
        """A remark beside a result."""
        ...
