"""The functions of ``erlang``, ``net_kernel``, ``code`` and others that Erlang's tools call on a node that they show.

They only read. Wrong arguments raise as in OTP.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from erlmesh.errors import ErlangError
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.system_messages import charlist
from erlmesh.services.observing.machine import banner
from erlmesh.services.observing.node_figures import NodeFigures
from erlmesh.services.observing.process_info import ProcessInfo
from erlmesh.services.observing.remote_shell import is_shell, load_refusal
from erlmesh.services.rpc.function_table import FunctionTable
from erlmesh.terms import Atom, Pid, Term
from erlmesh.version import __version__

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["ErlangFunctions"]

UNDEFINED: Final = Atom("undefined")
ERROR: Final = Atom("error")
_MAX_ITEMS: Final = 100
"""Items of one call of ``process_info/2``."""


class ErlangFunctions:
    """The functions for the node ``runtime``. ``functions`` are all functions that other nodes can call on it."""

    def __init__(self, runtime: Runtime, functions: FunctionTable, figures: NodeFigures, info: ProcessInfo) -> None:
        self._runtime = runtime
        self._functions = functions
        self._figures = figures
        self._info = info

    def add_to(self, table: FunctionTable) -> None:
        """Add all functions to ``table``."""
        runtime = self._runtime
        for module, function, body in (
            ("erlang", "is_process_alive", self._is_process_alive),
            ("erlang", "function_exported", self._function_exported),
            ("erlang", "memory", self._memory),
            ("erlang", "nodes", self._nodes),
            ("erlang", "port_info", _no_port),
            ("erlang", "ports", _nothing),
            ("erlang", "process_info", self._process_info),
            ("erlang", "processes", runtime.processes),
            ("erlang", "registered", lambda: [Atom(name) for name in runtime.registered()]),
            ("erlang", "statistics", self._statistics),
            ("erlang", "system_info", self._system_info),
            ("erlang", "whereis", self._whereis),
            ("net_kernel", "get_net_ticktime", lambda: round(runtime.net_ticktime)),
            ("net_kernel", "nodename", lambda: runtime.atom),
            ("net_adm", "localhost", lambda: charlist(runtime.name.partition("@")[2])),
            ("code", "all_loaded", _nothing),
            ("code", "ensure_loaded", self._ensure_loaded),
            ("code", "is_loaded", self._is_loaded),
            ("application", "loaded_applications", _applications),
            ("application", "which_applications", _applications),
            ("proc_lib", "get_label", lambda _pid: UNDEFINED),
            # The answer for a process of which nothing is known. Then observer asks no state of it.
            ("proc_lib", "translate_initial_call", lambda _pid: (Atom("proc_lib"), Atom("init_p"), 5)),
            ("ets", "all", _nothing),
        ):
            table.add(body, module, function, inline=True)

    def _process_info(self, pid: Term, item: Term = None) -> Term:
        """``erlang:process_info/1,2``. No term arrives as None, so None means that there is one argument."""
        items = item if isinstance(item, list) else [] if item is None else [item]
        if len(items) > _MAX_ITEMS or not all(self._info.has(each) for each in items):
            raise _badarg("process_info", pid, item)
        process = self._runtime.local_process(self._own_pid(pid, "process_info", pid, item))
        if process is None:
            return UNDEFINED
        if item is None:
            return self._info.all_items(process)
        if isinstance(item, list):
            return [self._info.item(process, each) for each in item]
        found = self._info.item(process, item)
        # OTP: `process_info(Pid, registered_name)` of a process without a name is [].
        return [] if item is Atom("registered_name") and found[1] == [] else found

    def _is_process_alive(self, pid: Term) -> Term:
        return self._runtime.is_alive(self._own_pid(pid, "is_process_alive", pid))

    def _own_pid(self, pid: Term, function: str, *arguments: Term) -> Pid:
        if not isinstance(pid, Pid) or pid.node is not self._runtime.atom:
            raise _badarg(function, *arguments)
        return pid

    def _memory(self, kind: Term = None) -> Term:
        figures = self._figures.memory()
        if kind is None:
            return [(Atom(name), number) for name, number in figures.items()]
        kinds = kind if isinstance(kind, list) else [kind]
        if not all(isinstance(each, Atom) and each.name in figures for each in kinds):
            raise _badarg("memory", kind)
        return [(each, figures[each.name]) for each in kinds] if isinstance(kind, list) else figures[kind.name]

    def _nodes(self, kinds: Term = None) -> Term:
        chosen = [Atom("visible")] if kinds is None else kinds if isinstance(kinds, list) else [kinds]
        found: dict[Atom, None] = {}
        for kind in chosen:
            match kind:
                case Atom("this"):
                    names = [self._runtime.name]
                case Atom("visible"):
                    names = self._runtime.nodes()
                case Atom("hidden"):
                    names = self._runtime.nodes(hidden=True)
                case Atom("connected"):
                    names = [*self._runtime.nodes(), *self._runtime.nodes(hidden=True)]
                case Atom("known"):
                    names = [self._runtime.name, *self._runtime.nodes(), *self._runtime.nodes(hidden=True)]
                case _:
                    raise _badarg("nodes", kinds)
            found.update(dict.fromkeys(map(Atom, names)))
        return list(found)

    def _whereis(self, name: Term) -> Term:
        if not isinstance(name, Atom):
            raise _badarg("whereis", name)
        return self._runtime.whereis(name) or UNDEFINED

    def _statistics(self, item: Term) -> Term:
        figure = self._figures.statistics(item)
        if figure is None:
            raise _badarg("statistics", item)
        return figure

    def _system_info(self, item: Term) -> Term:
        figure = self._figures.system_info(item)
        if figure is None:
            raise _badarg("system_info", item)
        return figure

    # What code there is

    def _function_exported(self, module: Term, function: Term, arity: Term) -> Term:
        if not (isinstance(module, Atom) and isinstance(function, Atom) and isinstance(arity, int)):
            raise _badarg("function_exported", module, function, arity)
        return self._functions.find(module, function, arity) is not None

    def _is_loaded(self, module: Term) -> Term:
        """``code:is_loaded/1``: ``{file, _}`` if the node has functions under that name."""
        return (Atom("file"), charlist("erlmesh")) if self._has_module(module) else False

    def _ensure_loaded(self, me: LocalProcess, module: Term) -> Term | Coroutine[Any, Any, Term]:
        """``code:ensure_loaded/1``. A remote shell asks it first, and shows the reason of a refusal."""
        if is_shell(module):
            return load_refusal(self._runtime, module, me.group_leader)
        return (Atom("module"), module) if self._has_module(module) else (ERROR, Atom("nofile"))

    def _has_module(self, module: Term) -> bool:
        return isinstance(module, Atom) and self._functions.has_module(module)


def _applications() -> Term:
    """``[{Application, Description, Version}]``."""
    return [(Atom("erlmesh"), charlist(banner()), charlist(__version__))]


def _no_port(port: Term, item: Term = None) -> Term:  # noqa: ARG001 - a node of Python has no ports
    return UNDEFINED


def _nothing() -> Term:
    return []


def _badarg(function: str, *arguments: Term) -> ErlangError:
    given = [argument for argument in arguments if argument is not None]
    return ErlangError(Atom("badarg"), [(Atom("erlang"), Atom(function), given, [])])
