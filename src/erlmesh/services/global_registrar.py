"""The registrar: the process through which this node changes global names, one change at a time.

It locks ``global`` on every node of the partition, so that no name is changed while tables are compared, and never
ends, so that a change reaches all nodes. (``the_registrar`` and ``trans_all_known`` in OTP's global.erl.)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from erlmesh.core.gen import GEN_CALL
from erlmesh.services.gen_server import multi_call
from erlmesh.services.global_calls import backoff, boss, connected, del_lock, try_lock
from erlmesh.services.global_protocol import SERVER, Word
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.runtime.process import Process
    from erlmesh.services.global_server import GlobalServer

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
                    me.reply(caller, await self._change(me, request))

    async def _change(self, me: Process, request: Term) -> Term:
        lock = (Word.GLOBAL, me.pid)
        nodes = await self._lock_all_known(me, lock)
        # Who was lost meanwhile must not be told: the call would wait for its next life, and reach that past all.
        still = [node for node in nodes if node == me.node.atom or node in self._server.sync.known]
        try:
            match request:
                case (Word.REGISTER, name, pid, _) if not self._is_free(name, pid):
                    return Word.NO
                case (Word.REGISTER | Word.RE_REGISTER, name, pid, method):
                    await multi_call(me, still, SERVER, (Word.REGISTER, name, pid, method))
                case (Word.UNREGISTER, _):
                    await multi_call(me, still, SERVER, request)
            return Word.YES
        finally:
            chief = boss(nodes)
            await del_lock(me, lock, [node for node in nodes if node != chief])
            await del_lock(me, lock, [chief])

    def _is_free(self, name: Term, pid: Pid) -> bool:
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
                if await try_lock(me, lock, connected(me, [node for node in nodes if node != chief])):
                    if all(node in nodes for node in known):
                        return nodes
                    await del_lock(me, lock, nodes)
                else:
                    await del_lock(me, lock, [chief])
            attempt += 1
            await me.sleep(backoff(attempt, me.node.random))
