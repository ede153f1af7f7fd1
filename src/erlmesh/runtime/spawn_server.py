"""Handles incoming SPAWN_REQUESTs. Requests to other nodes are in :mod:`~erlmesh.runtime.spawn_client`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from erlmesh.core.exit_reasons import NOCONNECTION
from erlmesh.core.spawn_requests import LINKED, MONITORED, parse_spawn_options
from erlmesh.proto.control import Link, Monitor, SpawnReply, SpawnRequest
from erlmesh.runtime.node_state import NodeState
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.process_types import RequestedBody
from erlmesh.runtime.spawner import Spawner
from erlmesh.terms import Atom, Term

__all__ = ["FallbackBody", "SpawnServer", "refuse_spawn"]

NOTSUP: Final = Atom("notsup")
BADOPT: Final = Atom("badopt")

FallbackBody: TypeAlias = "Callable[[Atom, Atom, list[Term]], RequestedBody | None]"
"""Returns ``body(me, module, function, arguments)`` for a function that is not in the table; None refuses it."""


def refuse_spawn(_module: Atom, _function: Atom, _arguments: list[Term]) -> None:
    """The fallback body of a node that runs nothing for other nodes."""


class SpawnServer:
    """Answers SPAWN_REQUESTs. ``bodies`` are the functions that can be started, by module, name and arity."""

    def __init__(self, state: NodeState, spawner: Spawner, fallback_body: FallbackBody) -> None:
        self.bodies: dict[tuple[str, str, int], RequestedBody] = {}
        self.served_while_stopping: set[tuple[str, str, int]] = set()
        """The functions that are started also while the node stops: they tell their callers to ask another node."""
        self._links = state.links
        self._monitors = state.monitors
        self._counters = state.counters
        self._node = state.identifiers.node
        self._spawner = spawner
        self._fallback_body = fallback_body

    def on_request(self, request: SpawnRequest) -> SpawnReply:
        """Start the requested process and return the reply for the requesting node.

        The reply carries the new pid, or a refusal: ``notsup`` if no body exists for the function, ``badopt`` for an
        option that OTP refuses too.
        """
        module, function, arguments = request.module, request.function, request.arguments
        body = self.bodies.get((module.name, function.name, request.arity))
        # A fallback body serves many functions, so it gets the function's name along with the arguments.
        body_arguments = tuple(arguments) if body else (module, function, arguments)
        body = body or self._fallback_body(module, function, arguments)
        if body is None:
            return SpawnReply(request.ref, request.sender, 0, NOTSUP)
        flags = parse_spawn_options(request.options)
        if flags is None:
            return SpawnReply(request.ref, request.sender, 0, BADOPT)
        tracer = self._counters.tracer
        if tracer is None or request.sender.node is self._node:  # A process of this node has the context already.
            process = self._spawner.start_without_task(body, body_arguments, lambda: _describe(request))
        else:  # It runs in a copy of the context of now.
            with tracer.context_of_token(request.token):
                process = self._spawner.start_without_task(body, body_arguments, lambda: _describe(request))
        process.group_leader = request.group_leader
        self._link_and_monitor(process, request, flags)
        return SpawnReply(request.ref, request.sender, flags, process.pid)

    def on_request_while_stopping(self, request: SpawnRequest) -> SpawnReply:
        """Answer ``noconnection``: the caller does what it does when a node is lost, as to ask another node.

        ``erpc:call`` raises ``{erpc, noconnection}`` and ``rpc:call`` returns ``{badrpc, nodedown}``.
        """
        if (request.module.name, request.function.name, request.arity) in self.served_while_stopping:
            return self.on_request(request)
        return SpawnReply(request.ref, request.sender, 0, NOCONNECTION)

    def _link_and_monitor(self, process: LocalProcess, request: SpawnRequest, flags: int) -> None:
        """Link and monitor the process before it runs, so that its parent misses no exit."""
        if flags & LINKED:
            self._links.link_received(Link(request.sender, process.pid))
        if flags & MONITORED:
            self._monitors.monitor_received(process.pid, Monitor(request.sender, process.pid, request.ref))


def _describe(request: SpawnRequest) -> str:
    return f"{request.module.name}:{request.function.name}/{request.arity} for {request.sender}"
