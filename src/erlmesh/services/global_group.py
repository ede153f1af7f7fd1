"""global_group: the answers of a node that is in no global group. OTP's callers wait for them until the node is lost.

::

    cast {find_name, Pid, Name}                       Pid gets {find_name_res, Pid | undefined}
    cast {registered_names, Pid}                      Pid gets {registered_names_res, [Name]}
    cast {conf_check, Vsn, Node, From, sync, …}       From gets {config_error, Vsn, From, Node}

``global_group:whereis_name({node, Node}, Name)``, ``registered_names`` and ``send`` make the first two. A node that has
global groups makes the third to each node of its group. With version 3 and later, ``From`` is ``{Pid, Session}``.
Before, the answer goes to ``global_group_check`` on that node.

Source: ``handle_cast/2`` in global_group.erl, and global_search.erl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from erlmesh.core import gen
from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.terms import Atom, Pid, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.runtime.process import LocalProcess
    from erlmesh.services.global_.names import GlobalNames

__all__ = ["answer"]

log = event_log("erlmesh.global_group")
_peer_log = PeerLog(log)

UNDEFINED: Final = Atom("undefined")
FIRST_VERSION_WITH_PID: Final = 3


def answer(me: LocalProcess, names: GlobalNames, message: Term) -> None:
    """Answer one message to the process ``me``. ``names`` are the global names of this node."""
    match message:
        case (gen.GEN_CAST, (Atom("find_name"), Pid() as asker, name)):
            me.send(asker, (Atom("find_name_res"), names.whereis(name) or UNDEFINED), connect=False)
        case (gen.GEN_CAST, (Atom("registered_names"), Pid() as asker)):
            me.send(asker, (Atom("registered_names_res"), names.registered()), connect=False)
        case (gen.GEN_CAST, (Atom("conf_check"), version, Atom() as node, asker, Atom("sync"), *_)):
            _refuse_group(me, version, node, asker)
        case (gen.GEN_CALL, (Pid(), _), _):
            me.unhandled(message)
        case _:
            _peer_log.debug("message_ignored", "ignored %s", ForeignText(message))


def _refuse_group(me: LocalProcess, version: Term, node: Atom, asker: Term) -> None:
    """Tell a node that this node is not in its global group."""
    refused = (Atom("config_error"), version, asker, me._ops.atom)
    match asker:
        case (Pid() as pid, _) if type(version) is int and version >= FIRST_VERSION_WITH_PID:
            me.send(pid, refused, connect=False)
        case _ if type(version) is int and version < FIRST_VERSION_WITH_PID:
            me.send((Atom("global_group_check"), node), refused, connect=False)
