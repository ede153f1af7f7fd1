"""The error of a conversion, with the path to the place."""

from __future__ import annotations

from erlmesh.errors import CodecError

__all__ = ["ConvertError", "Misfit"]


class ConvertError(CodecError):
    """A term does not fit the type that it should have. The message has the path: ``$.items[2].price``."""


class Misfit(Exception):
    """A part of a term does not fit its type. Each container that it is in adds its own step to the path."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.path = ""

    def inside(self, step: str) -> Misfit:
        """Add the step that leads to the part, and return the same error."""
        self.path = step + self.path
        return self
