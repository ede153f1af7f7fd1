"""net_kernel: the server that answers a ping. ``net_adm:ping/1`` makes the call ``{is_auth, Node}`` without a time
limit.

On a BEAM the node stops if this process terminates. Here the process starts again: another program that knows its pid
must not be able to stop the whole Python program.

Source: ``handle_call({is_auth, _}, ...)`` in net_kernel.erl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from erlmesh.core import gen
from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.services.gen_server import ERROR
from erlmesh.terms import Atom, Pid, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["NetKernel"]

log = event_log("erlmesh.net_kernel")
_peer_log = PeerLog(log)

YES: Final = Atom("yes")
NOTSUP: Final = Atom("notsup")


class NetKernel:
    """The server registered as ``net_kernel`` on ``node``.

    It does not spawn processes for other nodes. Nodes before OTP 23 ask it for that, and get ``{error, notsup}``.
    """

    def __init__(self, node: Runtime) -> None:
        self._node = node
        self._start()

    def _start(self) -> None:
        """Start the server, also after its exit."""
        self._process = self._node.spawn_handler(self._handle_message, name=Atom("net_kernel"), restart=self._start)

    def _handle_message(self, message: Term) -> None:
        match message:
            case (gen.GEN_CALL, (Pid() as pid, _), _) if not self._node.is_message_from(pid.node):
                pass
            case (gen.GEN_CALL, (Pid(), _) as caller, (Atom("is_auth"), Atom())):
                self._process.reply(caller, YES)
            case (gen.GEN_CALL, (Pid(), _) as caller, request):
                _peer_log.debug("request_ignored", "unknown call %s", ForeignText(request))
                self._process.reply(caller, (ERROR, NOTSUP))
            case _:
                _peer_log.debug("message_ignored", "ignored %s", ForeignText(message))
