"""The registrar: the process through which this node changes global names, one change at a time.

For each change it locks ``global`` on every node of the partition and calls every server. So no name changes while
two tables are compared, and a change reaches all nodes. The process never ends: if it did in the middle of a change,
some nodes would have the name and others not.

Source: ``loop_the_registrar`` and ``trans_all_known`` in global.erl.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from erlmesh.core.gen import GEN_CALL
from erlmesh.net.event_log import event_log
from erlmesh.services.gen_server import multi_call
from erlmesh.services.global_.client import backoff, boss, del_lock, filter_connected, try_lock
from erlmesh.services.global_.protocol import SERVER, Atoms
from erlmesh.terms import Atom, Pid, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.runtime.process import LocalProcess

__all__ = ["Registrar"]

_log = event_log(__name__)


class Registrar:
    """``run`` is the body of the process. It answers calls with ``yes`` or ``no``.

    ``known`` is the server's own table of the partition's nodes, read only. ``names_of`` returns the global names of a
    process, ``whereis`` the process of a name.
    """

    def __init__(
        self,
        known: Collection[Atom],
        names_of: Callable[[Pid], Collection[Term]],
        whereis: Callable[[Term], Pid | None],
    ) -> None:
        self._known = known
        self._names_of = names_of
        self._whereis = whereis

    async def run(self, me: LocalProcess) -> None:
        """Handle calls without end, one at a time."""
        me.trap_exit = True  # As in global.erl: only kill ends it.
        async for message in me:
            match message:
                case tuple((kind, (Pid(), _) as caller, request)) if kind is GEN_CALL:
                    me.reply(caller, await self._handle_request(me, request))

    async def _handle_request(self, me: LocalProcess, request: Term) -> Term:
        """Carry out one change under the lock. Return ``yes``, or ``no`` if the name cannot be registered."""
        lock = (Atoms.GLOBAL, me.pid)
        nodes = await self._lock_all_known(me, lock)
        # A node that was lost meanwhile must not be called. The call would connect to its next incarnation and change a
        # table there that has not been compared with ours.
        still_known = [node for node in nodes if node == me._ops.atom or node in self._known]
        try:
            match request:
                case (Atoms.REGISTER, name, pid, _) if not self._can_register(name, pid):
                    return Atoms.NO
                case (Atoms.REGISTER | Atoms.RE_REGISTER, name, pid, method):
                    await multi_call(me, still_known, SERVER, (Atoms.REGISTER, name, pid, method))
                case (Atoms.UNREGISTER, _):
                    await multi_call(me, still_known, SERVER, request)
            return Atoms.YES
        finally:
            # The boss is released last, as in client.py.
            boss_node = boss(nodes)
            await del_lock(me, lock, [node for node in nodes if node != boss_node])
            await del_lock(me, lock, [boss_node])

    def _can_register(self, name: Term, pid: Pid) -> bool:
        """True if ``name`` is free and ``pid`` has no name. Called under the lock."""
        others = self._names_of(pid)
        if others:
            _log.error(
                "global_second_name",
                "global: refused a second name for %s: %s",
                ForeignText(pid),
                ForeignText([name, *others]),
                pid=pid,
            )
        return not others and self._whereis(name) is None

    async def _lock_all_known(self, me: LocalProcess, lock: tuple[Term, Term]) -> list[Atom]:
        """Lock all nodes of the partition, the boss first. Return the locked nodes. Retry until it succeeds.

        If the partition has grown meanwhile, release and start again: the new nodes must be locked too.
        """
        attempt = 0
        known = self._known
        while True:
            nodes = [me._ops.atom, *known]
            boss_node = boss(nodes)
            if await try_lock(me, lock, [boss_node]):
                # A node that was lost or disconnected meanwhile must not be connected again by a call to it.
                if await try_lock(me, lock, filter_connected(me, [node for node in nodes if node != boss_node])):
                    if all(node in nodes for node in known):
                        return nodes
                    await del_lock(me, lock, nodes)
                else:
                    await del_lock(me, lock, [boss_node])
            attempt += 1
            await me.sleep(backoff(attempt, me._ops.random))
