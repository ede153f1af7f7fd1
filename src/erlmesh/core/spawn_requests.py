"""SPAWN_REQUESTs to other nodes that are not answered, and the options of ``spawn_opt``. No I/O. (erl_dist_protocol.)

The answer to a request is a SPAWN_REPLY with the same reference. The monitor of the new process, if one was requested,
has that reference too. The requesting process may stop waiting. Then the reply may still bring a new process, and
:func:`cancel_signals` removes its link and its monitor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from erlmesh.proto.control import Demonitor, ExitLink, SpawnReply
from erlmesh.records import record
from erlmesh.terms import Atom, Map, Pid, Ref, Term

__all__ = ["LINKED", "MONITORED", "PendingSpawn", "SpawnRequests", "cancel_signals", "parse_spawn_options"]

LINKED: Final = 1
MONITORED: Final = 2
"""The flags of a SPAWN_REPLY: the new process is linked to its parent, or monitored by it."""

_ABANDONED: Final = Atom("abandoned")
_MONITOR: Final = Atom("monitor")


@record(frozen=True)
class PendingSpawn:
    """``owner`` has requested a process on ``node``."""

    owner: Pid
    node: Atom


class SpawnRequests:
    """The requests of this node that are not answered, oldest first."""

    def __init__(self) -> None:
        self._pending: dict[Ref, PendingSpawn] = {}

    def add(self, ref: Ref, owner: Pid, node: Atom) -> None:
        """A request is sent."""
        self._pending[ref] = PendingSpawn(owner, node)

    def pop(self, ref: Ref) -> PendingSpawn | None:
        """Remove a request that gets no answer: it was not sent, or its node is lost. None if there is none."""
        return self._pending.pop(ref, None)

    def reply_received(self, reply: SpawnReply, node: Atom) -> PendingSpawn | None:
        """A reply arrived from ``node``. Remove and return its request.

        Return None if no request to that node for that process has the reference: a peer must not answer for another.
        """
        pending = self._pending.get(reply.ref)
        if pending is None or pending.node is not node or pending.owner != reply.to:
            return None
        del self._pending[reply.ref]
        return pending

    def pending_on(self, node: Atom) -> list[Ref]:
        """Return the references of the requests to ``node``, oldest first."""
        return [ref for ref, pending in self._pending.items() if pending.node is node]

    def __len__(self) -> int:
        return len(self._pending)


def cancel_signals(reply: SpawnReply, child: Pid) -> list[ExitLink | Demonitor]:
    """Return the signals to the node of ``child`` that end the link and the monitor with which it was started.

    For a child that no process waits for any more. It gets the exit signal ``abandoned``, as from OTP.
    """
    signals: list[ExitLink | Demonitor] = []
    if reply.flags & LINKED:
        signals.append(ExitLink(reply.to, child, _ABANDONED))
    if reply.flags & MONITORED:
        signals.append(Demonitor(reply.to, child, reply.ref))
    return signals


def parse_spawn_options(options: Term) -> int | None:
    """Return the flags LINKED and MONITORED that the ``options`` of ``spawn_opt`` ask for.

    Return None for options that a BEAM refuses with ``badopt``. Options for the scheduler and memory have no meaning
    here. They are checked and then ignored.
    """
    flags = 0
    if not isinstance(options, list):
        return None
    for option in options:
        if option is _MONITOR:  # what every call of erpc asks for
            flags |= MONITORED
            continue
        match option:
            case Atom("link"):
                flags |= LINKED
            case (Atom("monitor"), list() as monitor_options) if all(map(_is_monitor_option, monitor_options)):
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


# The value of each is checked, so that a wrong call fails here as it does on a BEAM.
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
