"""``erlang:system_info/1``, ``statistics/1`` and ``memory/0,1`` of this node.

The figures are those of the operating system process. The release is that of OTP 25, whose capabilities this node has;
the version says what the node really runs.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from erlmesh.runtime.system_messages import charlist
from erlmesh.services.observing import machine
from erlmesh.services.observing.process_view import PROCESS_BYTES
from erlmesh.terms import Atom, Term

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["NodeFigures"]

OTP_RELEASE: Final = "25"
PROCESS_LIMIT: Final = 1 << 28
"""The pids of a node: ids of 15 bits and serials of 13 bits."""
ATOM_LIMIT: Final = 1 << 20
"""OTP's default. Here atoms are released, so there is no limit."""
PORT_LIMIT: Final = 65536
ETS_LIMIT: Final = 8192
BUSY_LIMIT: Final = 1 << 20
"""Bytes that are queued for a node when its senders wait."""


class NodeFigures:
    """The figures of one node."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._system: dict[Term, Callable[[], Term]] = {
            "alloc_util_allocators": _constant([]),
            "atom_count": _constant(0),
            "atom_limit": _constant(ATOM_LIMIT),
            "build_type": _constant(Atom("opt")),
            "creation": lambda: runtime.creation,
            "delayed_node_table_gc": _constant(60),
            "dirty_cpu_schedulers": _constant(0),
            "dirty_cpu_schedulers_online": _constant(0),
            "dirty_io_schedulers": _constant(0),
            "dist_buf_busy_limit": _constant(BUSY_LIMIT),
            "dist_ctrl": _constant([]),
            "emu_flavor": _constant(Atom("erlmesh")),
            "emu_type": _constant(Atom("opt")),
            "ets_count": _constant(0),
            "ets_limit": _constant(ETS_LIMIT),
            "kernel_poll": _constant(True),
            "logical_processors": _processors,
            "logical_processors_available": _processors,
            "logical_processors_online": _processors,
            "machine": _text(lambda: "PYTHON"),
            "multi_scheduling": _constant(Atom("disabled")),
            "nif_version": _text(lambda: "none"),
            "otp_release": _text(lambda: OTP_RELEASE),
            "port_count": _constant(0),
            "port_limit": _constant(PORT_LIMIT),
            "process_count": runtime.process_count,
            "process_limit": _constant(PROCESS_LIMIT),
            "schedulers": _constant(1),
            "schedulers_online": _constant(1),
            "smp_support": _constant(False),
            "start_time": _constant(0),
            "system_architecture": _text(machine.architecture),
            "system_version": _text(lambda: f"{machine.banner()}\n"),
            "thread_pool_size": _constant(0),
            "threads": _constant(True),
            "version": _text(machine.banner),
            "wordsize": _constant(8),
        }
        self._statistics: dict[str, Callable[[], Term]] = {
            "active_tasks": lambda: [self.run_queue()],
            "context_switches": _constant((0, 0)),
            "exact_reductions": _constant((0, 0)),
            "garbage_collection": _constant((0, 0, 0)),
            "io": self.io,
            "reductions": _constant((0, 0)),
            "run_queue": self.run_queue,
            "run_queue_lengths": lambda: [self.run_queue()],
            "run_queue_lengths_all": lambda: [self.run_queue()],
            "runtime": lambda: (round(machine.cpu_seconds() * 1000), 0),
            "scheduler_wall_time": self.scheduler_wall_time,
            "scheduler_wall_time_all": self.scheduler_wall_time,
            "total_active_tasks": self.run_queue,
            "total_active_tasks_all": self.run_queue,
            "total_run_queue_lengths": self.run_queue,
            "total_run_queue_lengths_all": self.run_queue,
            "wall_clock": lambda: (self.uptime_ms(), 0),
        }

    def system_info(self, item: Term) -> Term | None:
        """``erlang:system_info(Item)``; None for an unknown item."""
        match item:
            case Atom() if (figure := self._system.get(item.name)) is not None:
                return figure()
            case (Atom("wordsize"), Atom("internal") | Atom("external")):
                return 8
            case (Atom("allocator") | Atom("allocator_sizes"), _):
                return []
        return None

    def statistics(self, item: Term) -> Term | None:
        """``erlang:statistics(Item)``; None for an unknown item."""
        figure = self._statistics.get(item.name) if isinstance(item, Atom) else None
        return None if figure is None else figure()

    def memory(self) -> dict[str, int]:
        """Bytes, under the names of ``erlang:memory/0``. The parts of processes are estimates."""
        total = machine.resident_bytes()
        processes = min(self._runtime.process_count() * PROCESS_BYTES, total)
        return {
            "total": total,
            "processes": processes,
            "processes_used": processes,
            "system": total - processes,
            "atom": 0,
            "atom_used": 0,
            "binary": 0,
            "code": 0,
            "ets": 0,
        }

    def memory_list(self) -> list[Term]:
        """``erlang:memory/0``."""
        return [(Atom(name), number) for name, number in self.memory().items()]

    def uptime_ms(self) -> int:
        """Milliseconds since the start of the node."""
        return round((self._runtime.now() - self._runtime.started_at) * 1000)

    def run_queue(self) -> int:
        """The callbacks that wait for the event loop; 0 with a loop that does not tell it."""
        return len(getattr(asyncio.get_running_loop(), "_ready", ()))

    def io(self) -> Term:
        """``erlang:statistics(io)``."""
        received, sent = machine.io_bytes()
        return (Atom("input"), received), (Atom("output"), sent)

    def scheduler_wall_time(self) -> list[Term]:
        """One scheduler: its active time is the processor time of all threads, so it can be more than 100 %."""
        total = max(self.uptime_ms() * 1000, 1)
        return [(1, round(machine.cpu_seconds() * 1_000_000), total)]


def _constant(value: Term) -> Callable[[], Term]:
    return lambda: value


def _text(make: Callable[[], str]) -> Callable[[], Term]:
    """A figure that OTP gives as a string: a list of code points."""
    return lambda: charlist(make())


def _processors() -> Term:
    if hasattr(os, "sched_getaffinity") and sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
