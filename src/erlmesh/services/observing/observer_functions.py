"""``observer_backend`` and ``appmon_info``: what OTP's observer and etop ask the node that they show.

observer disconnects from a node that answers one of its questions with ``badrpc``. So each has an answer; what a node
of Python has not (tables, ports, sockets, application trees) is empty.

The questions of OTP 25 to 29 are the same. Sources: observer_backend.erl and appmon_info.erl of runtime_tools,
etop.erl and observer_*_wx.erl of observer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from erlmesh.errors import ErlangError
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.spawner import ensure_task
from erlmesh.runtime.system_messages import charlist
from erlmesh.services.observing.look_limit import LookLimit
from erlmesh.services.observing.node_figures import NodeFigures
from erlmesh.services.observing.process_table import ROW_LIMIT, ProcessTable
from erlmesh.services.observing.process_view import current_function, initial_call, memory, name
from erlmesh.services.rpc.function_table import FunctionTable
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["ObserverFunctions"]

VERSION: Final = "2.0"
"""Of runtime_tools. etop asks for it, and accepts any."""
SHORTEST_INTERVAL_MS: Final = 100
"""Between two messages of ``fetch_stats``."""
LONGEST_INTERVAL_MS: Final = 3_600_000
UNDEFINED: Final = Atom("undefined")
DELIVERY: Final = Atom("delivery")
_SYSTEM_ITEMS: Final = [
    "logical_processors",
    "logical_processors_online",
    "logical_processors_available",
    "schedulers",
    "schedulers_online",
    "otp_release",
    "version",
    "system_architecture",
    "kernel_poll",
    "smp_support",
    "threads",
    "thread_pool_size",
    "process_count",
    "atom_limit",
    "atom_count",
    "process_limit",
    "port_limit",
    "port_count",
    "ets_limit",
    "ets_count",
    "dist_buf_busy_limit",
]


class ObserverFunctions:
    """The functions for the node ``runtime``."""

    def __init__(self, runtime: Runtime, figures: NodeFigures, table: ProcessTable, limit: LookLimit) -> None:
        self._runtime = runtime
        self._figures = figures
        self._table = table
        self._limit = limit

    def add_to(self, table: FunctionTable) -> None:
        """Add all functions to ``table``."""
        for function, body in (
            ("vsn", lambda: (Atom("ok"), charlist(VERSION))),
            ("sys_info", self.sys_info),
            ("get_port_list", _nothing),
            ("get_socket_list", _nothing),
            ("socket_info", _nothing),
            ("get_table_list", _no_tables),
        ):
            table.add(body, "observer_backend", function, inline=True)
        table.add(self.procs_info, "observer_backend", "procs_info")
        table.add(self.etop_collect, "observer_backend", "etop_collect")
        table.add(self.fetch_stats, "observer_backend", "fetch_stats")
        table.add(self.start_application_monitor, "appmon_info", "start_link2")

    def sys_info(self) -> Term:
        """``[{Item, Value}]``: what observer shows of the system, and its chart of memory."""
        figures = self._figures
        return [
            (Atom("uptime"), figures.uptime_ms()),
            (Atom("run_queue"), figures.run_queue()),
            *zip((Atom("io_input"), Atom("io_output")), [number for _, number in figures.io()], strict=True),
            *((Atom(item), figures.system_info(Atom(item))) for item in _SYSTEM_ITEMS),
            (Atom("schedulers_available"), 1),
            (Atom("wordsize_internal"), 8),
            (Atom("wordsize_external"), 8),
            (Atom("alloc_info"), []),
            *figures.memory_list(),
        ]

    async def procs_info(self, me: LocalProcess, collector: Term) -> Term:
        """Send ``{procs_info, self(), Rows}`` to ``collector`` for each slice of the processes, one at least.

        The caller spawns this process with a link, and takes its normal end as the end of the list.
        """
        to = _require_pid(collector)
        with self._limit.look():
            async for rows in self._table.slices(_etop_row):
                me.send(to, (Atom("procs_info"), me.pid, [row for row in rows if row[1] != me.pid]))
                await me.drain()  # a collector on a slow connection sets the pace
        return Atom("ok")

    async def etop_collect(self, me: LocalProcess, collector: Term) -> Term:
        """Send ``{self(), #etop_info{}}`` to ``collector``.

        Of many processes the message has those with the longest mailboxes. It counts all.
        """
        to = _require_pid(collector)
        with self._limit.look():
            rows, count = await self._table.longest_mailboxes(ROW_LIMIT, _etop_row)
        figures = self._figures.memory()
        info: Term = (
            Atom("etop_info"),
            _now(),
            count,
            UNDEFINED,  # wall_clock
            self._figures.scheduler_wall_time(),
            self._figures.run_queue(),
            [],
            [(Atom(kind), figures[kind]) for kind in ("total", "processes", "ets", "atom", "code", "binary")],
            [row for row in rows if row[1] != me.pid],
        )
        me.send(to, (me.pid, info))
        return Atom("ok")

    async def fetch_stats(self, me: LocalProcess, parent: Term, milliseconds: Term) -> Term:
        """Send ``{stats, 1, SchedulerWallTime, Io, Memory}`` to ``parent`` again and again, until any message comes.

        The caller is linked with this process, and its end is such a message.
        """
        to = _require_pid(parent)
        if not isinstance(milliseconds, int):
            raise ErlangError(Atom("timeout_value"))
        await ensure_task()
        me.trap_exit = True
        me.monitor(to)  # a caller without a link must not leave a process behind
        seconds = max(SHORTEST_INTERVAL_MS, min(milliseconds, LONGEST_INTERVAL_MS)) / 1000
        with self._limit.look():
            while True:
                try:
                    await me.receive(timeout=seconds)
                except TimeoutError:
                    figures = self._figures
                    stats = (Atom("stats"), 1, figures.scheduler_wall_time(), figures.io(), figures.memory_list())
                    me.send(to, stats, wait=False)
                else:
                    return Atom("ok")

    # appmon_info

    def start_application_monitor(self, me: LocalProcess, starter: Term, client: Term, options: Term) -> Term:  # noqa: ARG002
        """``appmon_info:start_link2(Starter, Client, Options)``: start the process that observer asks for applications.

        It ends with ``starter``. There are no application trees.
        """
        self._limit.require_free()
        return (Atom("ok"), self._runtime.spawn(_serve_applications, _require_pid(starter), self._limit))


async def _serve_applications(me: LocalProcess, starter: Pid, limit: LookLimit) -> None:
    with limit.look():
        await _answer_for_applications(me, me.monitor(starter))


async def _answer_for_applications(me: LocalProcess, ref: Ref) -> None:
    async for message in me:
        match message:
            case (Atom("$gen_cast"), (Pid() as client, Atom("app_ctrl"), aux, True, _)):
                me.send(client, (DELIVERY, me.pid, Atom("app_ctrl"), aux, []))
            case (Atom("$gen_cast"), (Pid() as client, Atom("app"), application, True, _)):
                me.send(client, (DELIVERY, me.pid, Atom("app"), application, ([], [], [], [])))
            case (Atom("DOWN"), down, *_) if down == ref:
                return


def _etop_row(process: LocalProcess) -> tuple[Term, ...]:
    """``#etop_proc_info{pid, mem, reds, name, runtime, cf, mq}``."""
    return (
        Atom("etop_proc_info"),
        process.pid,
        memory(process),
        0,
        name(process) or initial_call(process),
        0,
        current_function(process),
        len(process._mailbox),
    )


def _now() -> Term:
    """``erlang:timestamp()``."""
    microseconds = time.time_ns() // 1000
    return microseconds // 10**12, microseconds // 10**6 % 10**6, microseconds % 10**6


def _require_pid(term: Term) -> Pid:
    if not isinstance(term, Pid):
        raise ErlangError(Atom("badarg"))
    return term


def _nothing() -> Term:
    return []


def _no_tables(kind: Term, options: Term) -> Term:  # noqa: ARG001 - a node of Python has no tables
    return []
