"""Who gets the messages of a key: the answers and changes of group membership, for an outbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from erlmesh.services.group_names import normalize_group_name
from erlmesh.terms import Pid, Term, exact_key

if TYPE_CHECKING:
    from erlmesh.services.pg.protocol import GroupEvent
    from erlmesh.services.pg.server import Pg

__all__ = ["GroupHolders", "Holders"]


class Holders(Protocol):
    """What an outbox asks. A *bucket* is what changes its holder as a whole."""

    def bucket_of(self, key: bytes) -> Any:
        """The bucket of a key. It never changes."""

    def holder_of(self, key: bytes) -> Pid | None:
        """The process that gets the messages of a key now."""

    def watch(self, changed: Callable[[Any], None]) -> Callable[[], None]:
        """Call ``changed(bucket)`` after each change. Return a function that ends this."""


class GroupHolders:
    """The members of a group: each key has an owner of its own, and all keys are one bucket."""

    def __init__(self, pg: Pg, group: Term) -> None:
        self._pg = pg
        self._group = normalize_group_name(group)
        self._exact = exact_key(self._group)

    def bucket_of(self, _key: bytes) -> None:
        """See :class:`Holders`."""

    def holder_of(self, key: bytes) -> Pid | None:
        """See :class:`Holders`."""
        return self._pg.owner(self._group, key)

    def watch(self, changed: Callable[[Any], None]) -> Callable[[], None]:
        """See :class:`Holders`."""

        def on_event(event: GroupEvent) -> None:
            if exact_key(event.group) == self._exact:
                changed(None)

        return self._pg.subscribe(on_event)
