"""The registrar: the process through which this node changes global names, one change at a time.

It locks ``global`` on every node of the partition, so that no name is changed while tables are compared, and never
ends, so that a change reaches all nodes. (``the_registrar`` and ``trans_all_known`` in OTP's global.erl.)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from erlmesh.core.gen import GEN_CALL
from erlmesh.services.gen_server import multi_call
from erlmesh.services.global_.client import backoff, boss, del_lock, filter_connected, try_lock
from erlmesh.services.global_.protocol import SERVER, Atoms
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.runtime.process import Process
    from erlmesh.services.global_.server import GlobalServer

__all__ = ["Registrar"]

_log = logging.getLogger(__name__)


class Registrar:
    """``run`` is the body of the process; it answers calls with ``yes`` or ``no``."""

    def __init__(self, server: GlobalServer) -> None:
        self._server = server

    async def run(self, me: Process) -> None:
        me.trap_exit = True
        async for message in me:
            match message:
                case tuple((kind, (Pid(), _) as caller, request)) if kind is GEN_CALL:
                    me.reply(caller, await self._handle_request(me, request))

    async def _handle_request(self, me: Process, request: Term) -> Term:
        lock = (Atoms.GLOBAL, me.pid)
        nodes = await self._lock_all_known(me, lock)
        # Who was lost meanwhile must not be told: the call would wait for its next life, and reach that past all.
        still = [node for node in nodes if node == me.node.atom or node in self._server.sync.known]
        try:
            match request:
                case (Atoms.REGISTER, name, pid, _) if not self._can_register(name, pid):
                    return Atoms.NO
                case (Atoms.REGISTER | Atoms.RE_REGISTER, name, pid, method):
                    await multi_call(me, still, SERVER, (Atoms.REGISTER, name, pid, method))
                case (Atoms.UNREGISTER, _):
                    await multi_call(me, still, SERVER, request)
            return Atoms.YES
        finally:
            chief = boss(nodes)
            await del_lock(me, lock, [node for node in nodes if node != chief])
            await del_lock(me, lock, [chief])

    def _can_register(self, name: Term, pid: Pid) -> bool:
        others = self._server.names.names_of(pid)
        if others:
            _log.error("global: %s would be registered under several names: %r", pid, [name, *others])
        return not others and self._server.whereis(name) is None

    async def _lock_all_known(self, me: Process, lock: tuple[Term, Term]) -> list[Atom]:
        """All nodes of the partition, locked: the boss first; again if the partition grew meanwhile."""
        attempt = 0
        known = self._server.sync.known
        while True:
            nodes = [me.node.atom, *known]
            chief = boss(nodes)
            if await try_lock(me, lock, [chief]):
                # Who was lost, or left on purpose, meanwhile must not be called back by our asking him.
                if await try_lock(me, lock, filter_connected(me, [node for node in nodes if node != chief])):
                    if all(node in nodes for node in known):
                        return nodes
                    await del_lock(me, lock, nodes)
                else:
                    await del_lock(me, lock, [chief])
            attempt += 1
            await me.sleep(backoff(attempt, me.node.random))
