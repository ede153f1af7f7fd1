"""Why the last attempt to connect to each node failed, and why its last connection ended."""

from __future__ import annotations

from typing import Final

from erlmesh.errors import ConnectError, ErlmeshError

__all__ = ["LastErrors"]

MAX_NODES: Final = 256
"""Nodes for which the last error is kept, so that names from outside cannot fill the memory."""


class LastErrors:
    """The last error of each node. The nodes with the oldest errors are forgotten.

    It keeps the text and the class of an error. The error itself would keep its frames, and all that is in them.
    """

    def __init__(self) -> None:
        self._errors: dict[str, tuple[str, type[ErlmeshError]]] = {}

    def record(self, name: str, text: str, kind: type[ErlmeshError] = ConnectError) -> None:
        """Replace the error of ``name``."""
        self.forget(name)  # so that it becomes the newest
        self._errors[name] = text, kind
        if len(self._errors) > MAX_NODES:
            del self._errors[next(iter(self._errors))]

    def forget(self, name: str) -> None:
        """Remove the error of ``name``, if there is one."""
        self._errors.pop(name, None)

    def text(self, name: str) -> str | None:
        """Return the text of the last error; None if there is none."""
        return self._errors[name][0] if name in self._errors else None

    def kind(self, name: str) -> type[ErlmeshError] | None:
        """Return the class of the last error; None if there is none."""
        return self._errors[name][1] if name in self._errors else None
