"""Phoenix LiveDashboard: the questions of each of its pages about another node.

The dashboard loads a module of its own into a node that it shows, unless the same module is there or a dashboard runs
there. A node of Python says that the module is there and no dashboard runs: then the pages "Metrics" and "Request
Logger", which need a dashboard on the node, are not offered. So the dashboard sends its module. The node does not look
at it, and answers the calls of that module itself: those of LiveDashboard 0.5 to 0.8
(``lib/phoenix/live_dashboard/system_info.ex``).

A page whose data has the wrong shape ends the dashboard of its user. So each shape is made here, in one place. Texts
are binaries. The values of environment variables are never given.
"""

from __future__ import annotations

import platform
import shutil
from typing import TYPE_CHECKING, Final

from erlmesh.errors import ErlangError
from erlmesh.services.observing import machine
from erlmesh.services.observing.look_limit import LookLimit
from erlmesh.services.observing.node_figures import NodeFigures
from erlmesh.services.observing.process_info import ProcessInfo
from erlmesh.services.observing.process_table import ProcessTable
from erlmesh.services.observing.process_view import current_function, memory, name_text
from erlmesh.services.rpc.function_table import FunctionTable
from erlmesh.terms import Atom, Map, Pid, Term
from erlmesh.version import __version__

if TYPE_CHECKING:
    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime

__all__ = ["SYSTEM_INFO", "LiveDashboard"]

SYSTEM_INFO: Final = "Elixir.Phoenix.LiveDashboard.SystemInfo"
"""The module whose functions the dashboard calls on other nodes."""
NIL: Final = Atom("nil")
ERROR: Final = Atom("error")
OK: Final = Atom("ok")
ASCENDING: Final = Atom("asc")
OS_MON: Final = Atom("os_mon")
ENVIRONMENT_LIMIT: Final = 1000
"""Names of environment variables in one question."""
_MEMORY_KEYS: Final = (
    ("total_memory", "MemTotal"),
    ("system_total_memory", "MemTotal"),
    ("free_memory", "MemFree"),
    ("available_memory", "MemAvailable"),
    ("buffered_memory", "Buffers"),
    ("cached_memory", "Cached"),
    ("total_swap", "SwapTotal"),
    ("free_swap", "SwapFree"),
)
"""``memsup:get_system_memory_data/0`` and its names in ``/proc/meminfo``."""


class LiveDashboard:
    """The functions for the node ``runtime``."""

    def __init__(
        self, runtime: Runtime, figures: NodeFigures, table: ProcessTable, info: ProcessInfo, limit: LookLimit
    ) -> None:
        self._runtime = runtime
        self._limit = limit
        self._figures = figures
        self._table = table
        self._info = info

    def add_to(self, table: FunctionTable) -> None:
        """Add all functions to ``table``."""
        for name, function in (
            ("capabilities_callback", _capabilities),
            ("info_callback", self._system_info),
            ("usage_callback", self._usage),
            ("process_info_callback", self._process_info),
            ("ets_callback", _empty_page),
            ("ets_info_callback", _not_there),
            ("ports_callback", _empty_page),
            ("port_info_callback", _not_there),
            ("sockets_callback", _empty_page),
            ("socket_info_callback", _not_there),
            ("applications_info_callback", self._applications),
            ("app_tree_callback", _not_there),
            ("memory_allocators_callback", self._memory_allocators),
            ("env_info_callback", _environment),
        ):
            table.add(function, SYSTEM_INFO, name, inline=True)
        table.add(self._processes, SYSTEM_INFO, "processes_callback")
        table.add(_load_binary, "code", "load_binary", inline=True)
        # The disk may be slow, so this runs in a thread.
        table.add(_os_data, SYSTEM_INFO, "os_mon_callback")

    # The page "Home"

    def _system_info(self, environment: Term, application: Term) -> Term:  # noqa: ARG002 - it is not on this node
        system = self._figures.system_info
        return _atom_map(
            system_info=_atom_map(
                banner=machine.banner().encode(),
                elixir_version=f"Python {platform.python_version()}".encode(),
                phoenix_version=b"None",
                app_version=b"None",
                system_architecture=machine.architecture().encode(),
            ),
            system_limits=_atom_map(
                atoms=system(Atom("atom_limit")),
                ports=system(Atom("port_limit")),
                processes=system(Atom("process_limit")),
            ),
            system_usage=self._usage(),
            environment=_environment(environment),
        )

    def _usage(self) -> Term:
        figures = self._figures.memory()
        queue = self._figures.run_queue()
        return _atom_map(
            atoms=0,
            ports=0,
            processes=self._runtime.process_count(),
            io=machine.io_bytes(),
            uptime=self._figures.uptime_ms(),
            memory=_atom_map(
                total=figures["total"],
                process=figures["processes"],
                atom=0,
                binary=0,
                code=0,
                ets=0,
                other=figures["system"],
            ),
            total_run_queue=queue,
            cpu_run_queue=queue,
        )

    # The page "Processes"

    async def _processes(self, search: Term, sort_by: Term, direction: Term, limit: Term, earlier: Term) -> Term:  # noqa: ARG002
        """``{Rows, Count, State}``. The state would be the reductions of all processes; there are none to compare.

        All columns that can be sorted grow with the mailbox.
        """
        text = _require_search(search)
        number = _require_limit(limit)
        with self._limit.look():
            rows, count = await self._table.longest_mailboxes(
                number, _process_row, search=text, shortest=direction is ASCENDING
            )
        return rows, count, Map()

    def _process_info(self, pid: Term) -> Term:
        if not isinstance(pid, Pid) or pid.node is not self._runtime.atom:
            raise _function_clause("process_info_callback", pid)
        process = self._runtime.local_process(pid)
        if process is None:
            return ERROR
        details = self._details
        values: dict[str, Term] = {
            item.name: value for item, value in (self._info.item(process, Atom(key)) for key in _DETAIL_KEYS)
        }
        values["links"] = [details(each) for each in values["links"]]
        values["monitors"] = [details(target) for _, target in values["monitors"] if isinstance(target, Pid)]
        values["monitored_by"] = [details(each) for each in values["monitored_by"]]
        values["group_leader"] = details(values["group_leader"])
        parent = process._parent
        values["ancestors"] = [] if parent is None else [details(parent)]
        values["label"] = NIL
        return OK, [(Atom(key), value) for key, value in values.items()]

    def _details(self, pid: Pid) -> Term:
        """The struct that the dashboard shows as a link to a process."""
        process = self._runtime.local_process(pid) if pid.node is self._runtime.atom else None
        return _atom_map(
            __struct__=Atom(f"{SYSTEM_INFO}.ProcessDetails"),
            pid=pid,
            name_or_initial_call=NIL if process is None else name_text(process).encode(),
            initial_call=NIL,
        )

    # Other pages

    def _applications(self, search: Term, sort_by: Term, direction: Term, limit: Term) -> Term:  # noqa: ARG002
        text = _require_search(search)
        _require_limit(limit)
        description = machine.banner()
        if text is not None and text not in f"erlmesh {description.lower()}":
            return [], 0
        row = [
            (Atom("name"), Atom("erlmesh")),
            (Atom("description"), description.encode()),
            (Atom("version"), __version__.encode()),
            (Atom("state"), Atom("started")),
            (Atom("tree?"), False),
        ]
        return [row], 1

    def _memory_allocators(self, largest: Term) -> Term:
        """``{Rows, State}``: one allocator, which is the operating system process."""
        size = machine.resident_bytes()
        earlier = largest.get(Atom("total"), 0) if isinstance(largest, Map) else 0
        most = max(size, earlier) if isinstance(earlier, int) else size
        rows = [
            _atom_map(name=Atom(name), block_size=size, carrier_size=size, max_carrier_size=most)
            for name in ("total", "python")
        ]
        return rows, _atom_map(total=most)


_DETAIL_KEYS: Final = [
    "initial_call",
    "registered_name",
    "current_function",
    "status",
    "message_queue_len",
    "links",
    "monitors",
    "monitored_by",
    "trap_exit",
    "error_handler",
    "priority",
    "group_leader",
    "total_heap_size",
    "heap_size",
    "stack_size",
    "reductions",
    "garbage_collection",
    "suspending",
    "current_stacktrace",
]


def _capabilities(requirements: Term) -> Term:
    """What the node has of the ``requirements`` of the pages: ``os_mon`` for the page "OS Data"."""
    asked = requirements if isinstance(requirements, list) else []
    return _atom_map(
        **{
            "system_info": b"erlmesh",
            "dashboard_running?": False,
            "applications": [OS_MON] if (Atom("application"), OS_MON) in asked else [],
            "modules": [],
            "processes": [],
        }
    )


def _load_binary(module: Term, filename: Term, binary: Term) -> Term:  # noqa: ARG001 - nothing is loaded
    """``code:load_binary/3``: the dashboard's module counts as loaded. No other module is."""
    return (Atom("module"), module) if module is Atom(SYSTEM_INFO) else (ERROR, Atom("badfile"))


def _process_row(process: LocalProcess) -> Term:
    return [
        (Atom("pid"), process.pid),
        (Atom("name_or_initial_call"), name_text(process).encode()),
        (Atom("reductions_diff"), 0),
        (Atom("memory"), memory(process)),
        (Atom("reductions"), 0),
        (Atom("message_queue_len"), len(process._mailbox)),
        (Atom("current_function"), current_function(process)),
    ]


def _os_data() -> Term:
    """The page "OS Data": the load in 1/256, memory in bytes, and ``[{Disk, KiB, Percent}]``."""
    loads = machine.load_averages()
    load1, load5, load15 = (NIL, NIL, NIL) if loads is None else [round(load * 256) for load in loads]
    meminfo = machine.machine_memory()
    disk = shutil.disk_usage("/")
    return _atom_map(
        cpu_avg1=load1,
        cpu_avg5=load5,
        cpu_avg15=load15,
        cpu_nprocs=0,
        cpu_per_core=[],
        disk=[(b"/", disk.total // 1024, round(100 * disk.used / max(disk.total, 1)))],
        system_mem=[(Atom(key), meminfo[name]) for key, name in _MEMORY_KEYS if name in meminfo],
    )


def _environment(names: Term) -> Term:
    """``[{Name, nil}]``: the page shows the names, and no value."""
    if not isinstance(names, list):
        return NIL
    return [(name, NIL) for name in names[:ENVIRONMENT_LIMIT]]


def _empty_page(search: Term, sort_by: Term, direction: Term, limit: Term) -> Term:  # noqa: ARG001
    """``{Rows, Count}`` of a page for things that a node of Python has not."""
    return [], 0


def _not_there(identifier: Term) -> Term:  # noqa: ARG001
    return ERROR


def _require_search(search: Term) -> str | None:
    if search is NIL:
        return None
    if not isinstance(search, bytes):
        raise _function_clause("processes_callback", search)
    return search.decode(errors="replace").lower()


def _require_limit(limit: Term) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise _function_clause("processes_callback", limit)
    return limit


def _function_clause(function: str, *arguments: Term) -> ErlangError:
    return ErlangError(Atom("function_clause"), [(Atom(SYSTEM_INFO), Atom(function), list(arguments), [])])


def _atom_map(**values: Term) -> Map:
    return Map([(Atom(key), value) for key, value in values.items()])
