"""One input of a caller, and how the caller gets its answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from erlmesh.servings.tensors import Template, from_wire, to_wire
from erlmesh.terms import Term
from erlmesh.terms.sizes import term_size

__all__ = ["Request"]


class Request(ABC):
    """The input of one caller. ``term`` is the input as received.

    Raises ValueError for a tensor that cannot be read; the text is for the caller.
    """

    def __init__(self, term: Term) -> None:
        self.size = term_size(term)
        """About how many bytes the input has."""
        self._template = Template()
        self.input: Any = from_wire(term, self._template)
        """What the function gets: the term, with NumPy arrays in place of tensors."""
        self._events: list[Term] = []
        self._ended = False

    @abstractmethod
    def caller_waits(self) -> bool:
        """False if the caller is gone, or has given up."""

    @abstractmethod
    def send_result(self, term: Term) -> None:
        """Give the answer to the caller. Raises EncodeError if it is not a term."""

    @abstractmethod
    def send_failure(self, reason: Term) -> None:
        """Tell the caller why there is no answer."""

    def send_event(self, term: Term) -> None:
        """Take one event of a stream. A caller that reads no stream gets all of them as a list."""
        self._events.append(term)

    def end_stream(self) -> None:
        """No event follows."""
        self.send_result(self._events)

    async def drain(self) -> None:  # noqa: B027 - most requests read no stream
        """Wait while the connection to the caller of a stream is full."""

    # What the engine calls

    def is_wanted(self) -> bool:
        """True while the caller waits, and nothing has failed."""
        return not self._ended and self.caller_waits()

    def fail(self, reason: Term) -> None:
        """There is no answer, or no further event."""
        if not self._ended:
            self._ended = True
            self.send_failure(reason)

    def result(self, output: Any) -> None:
        """The function has returned ``output`` for this input."""
        self.send_result(to_wire(output, self._template))
        self._ended = True

    def event(self, output: Any) -> None:
        """The function has yielded ``output`` for this input."""
        self.send_event(to_wire(output, self._template))
