"""A native turn of a connection: one read, the steps of the processes that it wakes up, and one write.

It does the same as :meth:`DistProtocol.run_read` with :class:`DistSocket` and :class:`Channel`, without Python code.
What is unusual it gives to them. So it reads attributes of these classes, which are slots for this reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from erlmesh import native
from erlmesh.core.read_pacing import MIN_READ
from erlmesh.net.native_socket import NativeSharedSocket
from erlmesh.net.read_pauses import ReadPauses
from erlmesh.net.shared_socket import SharedSocket
from erlmesh.proto.channel import Channel
from erlmesh.proto.unfinished import COUNTED_FROM

__all__ = ["NativeTurn", "TurnSocket", "native_turn"]

_ReadTurn: Final[Any] = getattr(native.module, "ReadTurn", None)
_Wakeups: Final[Any] = getattr(native.module, "Wakeups", None)


class NativeTurn(Protocol):
    """The event loop calls it when the socket has data."""

    def __call__(self) -> None: ...

    def take_counts(self) -> tuple[int, int, float, int, float]:
        """Return what was read and written since the last call: the arguments of :meth:`Channel.note_turns`."""


class TurnSocket(Protocol):
    """The DistSocket of the connection."""

    shared: SharedSocket
    fd: int


def native_turn(
    protocol: object, connected_socket: TurnSocket, channel: Channel, run_round: object, write_threshold: int
) -> NativeTurn | None:
    """Return the turn of a connection; None if there is none in this build, or for this connection.

    ``protocol`` is a DistProtocol, and ``run_round`` and ``write_threshold`` are its own.
    """
    shared, wakeups = connected_socket.shared, getattr(run_round, "__self__", None)
    if _ReadTurn is None or not isinstance(shared, NativeSharedSocket) or not isinstance(wakeups, _Wakeups):
        return None
    turn: NativeTurn = _ReadTurn(
        (protocol, connected_socket, channel, ReadPauses),
        (channel.wire, shared.link, wakeups),
        connected_socket.fd,
        (MIN_READ, COUNTED_FROM, write_threshold),
        _clock(asyncio.get_running_loop()),
    )
    return turn


def _clock(loop: asyncio.AbstractEventLoop) -> Callable[[], float] | None:
    """Return the clock of a loop; None for the monotonic clock of the system, which asyncio and uvloop use."""
    is_uvloop = type(loop).__module__.partition(".")[0] == "uvloop"
    return None if is_uvloop or type(loop).time is asyncio.BaseEventLoop.time else loop.time
