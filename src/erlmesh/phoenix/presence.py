"""What a Tracker shows of a tracked process, and how that changes."""

from __future__ import annotations

from typing import Literal

from erlmesh.core.phoenix_tracker.entries import Entry
from erlmesh.core.phoenix_tracker.presence_shape import Presences, grouped, key_text
from erlmesh.records import record
from erlmesh.terms import Atom, Map, Pid, Term

__all__ = ["Presence", "PresenceDiff"]

_PHX_REF = Atom("phx_ref")


@record(frozen=True)
class Presence:
    """A tracked process. One process may be under several keys, and several processes under one key."""

    topic: str
    key: Term
    """As it is on the wire: an Elixir string is ``bytes``. See :attr:`key_text`."""
    pid: Pid
    meta: Map
    """What was given to ``track``, and ``phx_ref``. After an update also ``phx_ref_prev``, the earlier one."""

    @property
    def key_text(self) -> str:
        """The key as a ``str``."""
        return key_text(self.key)

    @property
    def ref(self) -> bytes:
        """The ``phx_ref`` of the meta: it is unique, and new after each update."""
        ref = self.meta.get(_PHX_REF)
        return ref if isinstance(ref, bytes) else b""

    @classmethod
    def of(cls, entry: Entry) -> Presence:
        """The presence of an entry of the books."""
        return cls(entry.topic.decode("utf-8", "backslashreplace"), entry.key, entry.pid, entry.meta)


@record(frozen=True)
class PresenceDiff:
    """A change of one topic. An update is a leave and a join of the same process and key."""

    topic: str
    joins: tuple[Presence, ...]
    leaves: tuple[Presence, ...]

    def grouped(self) -> dict[Literal["joins", "leaves"], Presences]:
        """The payload of Phoenix's ``presence_diff``: joins and leaves by key, each with its ``metas``."""
        return {
            "joins": grouped((each.key, each.meta) for each in self.joins),
            "leaves": grouped((each.key, each.meta) for each in self.leaves),
        }
