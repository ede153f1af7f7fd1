"""Processes that were asked for on other nodes and are not there yet (erl_dist_protocol, SPAWN_REQUEST).

The answer is a SPAWN_REPLY with the request's reference, which is also that of the monitor, if one was asked for.
Whoever asked may give up meanwhile: then the answer undoes what it brings. The table returns signals and sends none.
And the other way round: what an asker may wish of a process that is born here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from erlmesh.proto.control import Demonitor, ExitLink, SpawnReply
from erlmesh.terms import Atom, Map, Pid, Ref, Term

__all__ = ["LINKED", "MONITORED", "PendingSpawn", "SpawnRequests", "cancel_signals", "parse_spawn_options"]

LINKED: Final = 1
MONITORED: Final = 2
"""The flags of a SPAWN_REPLY."""

_ABANDONED: Final = Atom("abandoned")


@dataclass(frozen=True, slots=True)
class PendingSpawn:
    """``owner`` asked ``node`` for a process."""

    owner: Pid
    node: Atom


class SpawnRequests:
    """The requests of one node that are not answered."""

    def __init__(self) -> None:
        self._pending: dict[Ref, PendingSpawn] = {}

    def add(self, ref: Ref, owner: Pid, node: Atom) -> None:
        """A request goes out."""
        self._pending[ref] = PendingSpawn(owner, node)

    def pop(self, ref: Ref) -> PendingSpawn | None:
        """The request never left, or its node is gone: no answer will come. None if there was no such request."""
        return self._pending.pop(ref, None)

    def reply_received(self, reply: SpawnReply, node: Atom) -> PendingSpawn | None:
        """The reply ends its request; None when it answers nothing that was asked of ``node`` for that process."""
        asked = self._pending.get(reply.ref)
        if asked is None or asked.node is not node or asked.owner != reply.to:
            return None
        del self._pending[reply.ref]
        return asked

    def pending_on(self, node: Atom) -> list[Ref]:
        """The requests that wait for ``node``, oldest first."""
        return [ref for ref, asked in self._pending.items() if asked.node is node]

    def __len__(self) -> int:
        return len(self._pending)


def cancel_signals(reply: SpawnReply, child: Pid) -> list[ExitLink | Demonitor]:
    """Nobody waits for ``child`` any more: the signals to its node that end the link and monitor it was born with."""
    signals: list[ExitLink | Demonitor] = []
    if reply.flags & LINKED:
        signals.append(ExitLink(reply.to, child, _ABANDONED))
    if reply.flags & MONITORED:
        signals.append(Demonitor(reply.to, child, reply.ref))
    return signals


def parse_spawn_options(options: Term) -> int | None:
    """What a process asked for with the ``options`` of ``spawn_opt`` is to its parent from its birth: LINKED,
    MONITORED. None for options that a BEAM calls ``badopt``. Those for scheduler and memory have no meaning here.
    """
    flags = 0
    if not isinstance(options, list):
        return None
    for option in options:
        match option:
            case Atom("link"):
                flags |= LINKED
            case Atom("monitor"):
                flags |= MONITORED
            case (Atom("monitor"), list() as wishes) if all(map(_is_monitor_option, wishes)):
                flags |= MONITORED
            case (Atom(name=name), value) if name in _IGNORED_OPTIONS and _IGNORED_OPTIONS[name](value):
                pass
            case _:
                return None
    return flags


def _is_monitor_option(option: Term) -> bool:
    match option:
        case (Atom("alias"), Atom(name=name)):
            return name in ("explicit_unalias", "demonitor", "reply_demonitor")
        case (Atom("tag"), _):
            return True
    return False


def _one_of(*names: str) -> Callable[[Term], bool]:
    return lambda value: isinstance(value, Atom) and value.name in names


def _is_size(value: Term) -> bool:
    return type(value) is int and 0 <= value < 1 << 59


def _is_heap_limit(value: Term) -> bool:
    return _is_size(value) or (isinstance(value, Map) and _is_size(value.get(Atom("size"))))


_IGNORED_OPTIONS: Final[dict[str, Callable[[Term], bool]]] = {
    "priority": _one_of("low", "normal", "high", "max"),
    "message_queue_data": _one_of("on_heap", "off_heap"),
    "min_heap_size": _is_size,
    "min_bin_vheap_size": _is_size,
    "max_heap_size": _is_heap_limit,
    "fullsweep_after": lambda value: _is_size(value) and value < 1 << 16,
    "scheduler": _is_size,
    "async_dist": lambda value: isinstance(value, bool),
}
