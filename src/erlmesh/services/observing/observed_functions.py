"""Adds all functions that tools call on a node that they show. It is imported at the first such call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from erlmesh.services.observing.erlang_functions import ErlangFunctions
from erlmesh.services.observing.live_dashboard import LiveDashboard
from erlmesh.services.observing.look_limit import LookLimit
from erlmesh.services.observing.node_figures import NodeFigures
from erlmesh.services.observing.observer_functions import ObserverFunctions
from erlmesh.services.observing.process_info import ProcessInfo
from erlmesh.services.observing.process_table import ProcessTable
from erlmesh.services.observing.remote_shell import RemoteShell
from erlmesh.services.observing.trace_relay import TraceRelay

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.rpc.function_table import FunctionTable

__all__ = ["add_observed_functions"]


def add_observed_functions(table: FunctionTable, runtime: Runtime, functions: FunctionTable) -> None:
    """Add the functions for the node ``runtime`` to ``table``.

    ``functions`` are all functions that other nodes can call on it; ``table`` is a part of them.
    """
    figures, processes = NodeFigures(runtime), ProcessTable(runtime.state.registry)
    info = ProcessInfo(runtime.state, lambda: runtime.group_leader)
    ErlangFunctions(runtime, functions, figures, info).add_to(table)
    limit = LookLimit()
    ObserverFunctions(runtime, figures, processes, limit).add_to(table)
    LiveDashboard(runtime, figures, processes, info, limit).add_to(table)
    RemoteShell(runtime).add_to(table)
    TraceRelay(runtime, limit).add_to(table)
