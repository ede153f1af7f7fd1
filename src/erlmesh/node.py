"""A node: the runtime with the services that every BEAM expects of a member of its cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from erlmesh.errors import GroupError, Undef
from erlmesh.runtime.runtime import Runtime
from erlmesh.services import erpc
from erlmesh.services.global_calls import trans
from erlmesh.services.global_names import GlobalNames
from erlmesh.services.net_kernel import NetKernel
from erlmesh.services.pg import Pg
from erlmesh.services.pg2 import Pg2
from erlmesh.services.rex import Rex
from erlmesh.terms import Atom, Term

__all__ = ["Node"]


class Node(Runtime):
    """A named member of an Erlang cluster. ::

        async with Node("socrates@127.0.0.1", cookie="monster") as node:
            await node.ping("plato@127.0.0.1")

    ``name`` is ``alive@host``; other nodes reach it at that host by exactly that name. All nodes of a cluster share the
    ``cookie`` (``cookies`` gives others for single peers) and should have the same ``net_ticktime`` (seconds without a
    sign of life until a peer is given up, within a quarter). ``join`` names nodes to connect with at the start, which
    introduce all others.

    ``hidden`` keeps out of the mesh and of everybody's ``nodes()``. ``allow`` lists the only nodes to be met, whoever
    dials: nodes (``plato@10.0.0.7``), hosts (``10.0.0.7``), names on any host (``plato@``), with ``*`` and ``?``.

    ``listen`` is the host or address (or several; ``*`` is all) to accept connections on, else the name's own;
    ``ports`` the ports to try, in order, 0 for any; ``advertise_port`` what others are told instead, where a NAT or a container
    engine maps ports. ``epmd`` makes the node known and ``resolver`` finds the others, both EPMD if not given:
    ``epmd=FixedPort(4370)`` is OTP's ``-erl_epmd_port``, and a resolver is any object with ``async where(name)``.

    ``network`` and ``seed`` are for simulations (:mod:`erlmesh.testing`): with a seed all chance repeats itself, also the
    challenges of the handshake, which must be unpredictable in the real world.

    Raises ``ValueError`` for malformed arguments, and :class:`NodeStartError` on start when the name or port is taken or
    the host cannot be found.
    """

    pg: Pg
    """Process groups as OTP 23 and later have them."""
    pg2: Pg2
    """Process groups as OTP 23 and before have them."""
    global_names: GlobalNames
    """Names and locks of the whole cluster (OTP's ``global``)."""

    def __init__(
        self, name: str, *, join: Iterable[str] = (), prevent_overlapping_partitions: bool = True, **options: Any
    ) -> None:
        super().__init__(name, **options)
        self._join = tuple(join)
        self._prevent_overlapping_partitions = prevent_overlapping_partitions
        self._functions: dict[tuple[str, str, int], Callable[..., Term]] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _start_services(self) -> None:
        NetKernel(self)
        Rex(self, self._apply)
        erpc.serve(self, self._apply)
        self.global_names = GlobalNames(self, prevent_overlapping_partitions=self._prevent_overlapping_partitions)
        self.pg = Pg(self)
        self.pg2 = Pg2(self, trans)
        self._functions |= {
            ("global", "resolve_it", 4): self.global_names.resolve_it,
            ("pg", "get_members", 1): self.pg.get_members,
            ("pg2", "get_members", 1): self._pg2_members,
            ("erlang", "node", 0): lambda: self.atom,
        }
        for peer in self._join:
            self.connect_nowait(peer, lambda _: None)

    def _pg2_members(self, name: Term) -> Term:
        """For other nodes, with OTP's error."""
        try:
            return self.pg2.get_members(name)
        except GroupError as error:
            return (Atom("error"), error.reason)

    async def stop(self) -> None:
        if self._router_ is not None and hasattr(self, "global_names"):
            self.global_names.leave()
        await super().stop()

    def _apply(self, module: Atom, function: Atom, arguments: list[Term]) -> Term:
        """The functions that other nodes may call here; nothing is looked up by names from the wire but in this table."""
        apply = self._functions.get((module.name, function.name, len(arguments)))
        if apply is None:
            raise Undef(module.name, function.name, len(arguments))
        return apply(*arguments)
