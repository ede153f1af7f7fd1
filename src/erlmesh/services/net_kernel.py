"""net_kernel: the server that answers a ping, for which a BEAM asks it ``{is_auth, Node}`` and waits without limit.

On a BEAM the end of a process like this one ends the node. Here it is started again: what other programs can end by
knowing a pid should not be the user's whole program.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from erlmesh.core import gen
from erlmesh.services.gen_server import ERROR
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["NetKernel"]

log = logging.getLogger("erlmesh.net_kernel")

YES: Final = Atom("yes")
NOTSUP: Final = Atom("notsup")


class NetKernel:
    """Registered as ``net_kernel`` on ``node``. It starts no processes for others (the old way to spawn came here)."""

    def __init__(self, node: Runtime) -> None:
        self._node = node
        self._start()

    def _start(self) -> None:
        self._process = self._node.spawn_handler(self._handle_message, name=Atom("net_kernel"), on_end=self._start)

    def _handle_message(self, message: Term) -> None:
        match message:
            case (gen.GEN_CALL, (Pid(), _) as caller, (Atom("is_auth"), Atom())):
                self._process.reply(caller, YES)
            case (gen.GEN_CALL, (Pid(), _) as caller, request):
                log.debug("not understood: call %r", request)
                self._process.reply(caller, (ERROR, NOTSUP))
            case _:
                log.debug("ignored %r", message)
