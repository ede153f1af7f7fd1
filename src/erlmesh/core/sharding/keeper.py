"""What a user writes to keep state in shards: five functions of a state. No I/O.

A shard has a state for each key. Its holder applies messages to it, and each backup applies the same messages to a
copy. So the functions must depend on nothing but their arguments: no clock, no random number, no variable outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias, TypeVar

from erlmesh.records import record
from erlmesh.terms import Term

__all__ = ["Keeper", "Merge", "Origin", "Results", "newest"]

S = TypeVar("S")

Results: TypeAlias = Iterable[Term] | None
"""What goes out after a message: terms, in order. None or an empty one is nothing."""


@record(frozen=True)
class Origin:
    """Where a message comes from, and when its holder applied it. A backup gets the same values."""

    key: bytes
    source: Term
    """The outbox that has sent it: unequal for each node, each life of a node, and each outbox."""
    number: int
    """The number of the message. Those of one source and one key are contiguous."""
    time: float
    """Seconds since 1970 by the clock of the holder, to the millisecond. Holders have different clocks."""


class Keeper(Protocol[S]):
    """How to keep the state of a key. The functions run in the event loop: while one runs, nothing else does."""

    def new(self, key: bytes) -> S:
        """The state of a key that has no message yet."""

    def apply(self, state: S, message: Term, at: Origin) -> Results:
        """Change ``state`` by a message, and return what goes out.

        An exception refuses the message: its source is told the reason, and the state stays as it was. For this,
        ``apply`` gets ``load(dump(state))``. A keeper that raises only before its first change sets the attribute
        ``all_or_nothing`` to True. Then ``apply`` gets the state itself, which costs less.

        Results are terms, in a list, a tuple or another iterable that is no text. Something else refuses the message,
        too. With ``all_or_nothing`` it is too late for that: the message is applied, its results are lost, and the log
        says so.
        """

    def merge(self, ours: S, theirs: S) -> S:
        """One state that contains the messages of both. It may change and return either of them.

        The two have common messages. The order of arguments, the order of several merges, and a repeated merge make no
        difference to the result.
        """

    def dump(self, state: S) -> Iterable[Term]:
        """The state as terms. They are sent in slices, so many small terms are better than a large one.

        The iterable is read at once. Later changes of the state must not change the terms.
        """

    def load(self, pieces: Iterable[Term]) -> S:
        """The state of which ``dump`` has made ``pieces``. They have the form that another node receives: a ``str`` is
        ``bytes``, and a ``dict`` is a ``Map``. The state shares nothing that changes with another state.
        """


Merge: TypeAlias = Callable[[S, S], S]


def newest(ours: S, theirs: S) -> S:  # noqa: ARG001 - it has the type of a merge
    """Pass this as ``merge=`` to keep the state with more applied messages, if two states have no useful merge.

    The messages that only the other one has are lost. The holder reports how many. It is a mark, not a function: only
    the holder knows the counts. A call raises TypeError.
    """
    raise TypeError("pass newest as merge= of node.shards(): a keeper's own merge cannot know which state is newer")
