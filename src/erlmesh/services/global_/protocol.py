"""The protocol of ``global``: atoms, versions, and the effects that the service's state machines return.

``sync``, ``partitions``, ``lock_table`` and ``name_table`` do no I/O. Their methods take an event and return a list
of the effects below. ``server`` carries the effects out, in order.

Source: global.erl of OTP 25 and later. Its header explains the algorithms.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from erlmesh.core.gen import GEN_CALL, GEN_CAST
from erlmesh.records import record
from erlmesh.terms import Atom, Pid, Term

__all__ = [
    "NET_SETUPTIME_SECONDS",
    "OLDEST_VSN",
    "PARTITION_VSN",
    "SERVER",
    "TAGGED_VSN",
    "VERIFY_CONNECT_VSN",
    "VSN",
    "Atoms",
    "Cast",
    "Conflict",
    "Connect",
    "Demonitor",
    "Disconnect",
    "Effect",
    "LockId",
    "Monitor",
    "Recheck",
    "Reply",
    "Resolve",
    "Send",
    "SendToLocker",
    "StopResolving",
    "claimed_sender",
]

# Versions of the protocol between two global_name_servers (the list at the top of OTP's global.erl).
VSN: Final = 8
"""Our version. Two nodes use the lower of their versions."""
VERIFY_CONNECT_VSN: Final = 8
"""Since version 8 there are init_connect_ack and cancel_connect, and lock_set carries a session tag."""
PARTITION_VSN: Final = 7
"""Since version 7 there are lost_connection and remove_connection, and lists of known nodes carry versions."""
TAGGED_VSN: Final = 6
"""Since version 6 lock_set goes through the servers. Before that it goes from locker to locker."""
OLDEST_VSN: Final = 5
"""Older nodes use another lock (R10B and earlier). Their init_connect is ignored."""

NET_SETUPTIME_SECONDS: Final = 7.0
"""The time in which a connection must come up: OTP's kernel parameter ``net_setuptime``."""

SERVER: Final = Atom("global_name_server")
"""The registered name of the service on every node."""

LockId: TypeAlias = tuple[Term, Term]
"""``{ResourceId, LockRequesterId}``, as ``global:set_lock/1`` takes it."""


class Atoms:
    """Atoms on the wire. They are attributes of a class because a ``match`` pattern needs a dotted name."""

    GLOBAL = Atom("global")
    # Casts and plain messages between servers
    INIT_CONNECT = Atom("init_connect")
    INIT_CONNECT_ACK = Atom("init_connect_ack")
    CANCEL_CONNECT = Atom("cancel_connect")
    LOCK_SET = Atom("lock_set")
    LOCK_IS_SET = Atom("lock_is_set")
    EXCHANGE = Atom("exchange")
    EXCHANGE_OPS = Atom("exchange_ops")
    RESOLVED = Atom("resolved")
    NEW_NODES = Atom("new_nodes")
    IN_SYNC = Atom("in_sync")
    LOST_CONNECTION = Atom("lost_connection")
    REMOVE_CONNECTION = Atom("remove_connection")
    ASYNC_DEL_NAME = Atom("async_del_name")
    ASYNC_DEL_LOCK = Atom("async_del_lock")
    # Calls to a server
    SET_LOCK = Atom("set_lock")
    DEL_LOCK = Atom("del_lock")
    REGISTER = Atom("register")
    REGISTER_EXT = Atom("register_ext")
    RE_REGISTER = Atom("re_register")
    UNREGISTER = Atom("unregister")
    GET_KNOWN = Atom("get_known")
    GET_SYNCED = Atom("get_synced")
    GET_PROTOCOL_VERSION = Atom("get_protocol_version")
    GET_NAMES_EXT = Atom("get_names_ext")
    SYNC = Atom("sync")
    WHEREIS = Atom("whereis")
    # Elements of these messages
    LOCKER = Atom("locker")
    NO_LONGER_A_PID = Atom("no_longer_a_pid")
    UNUSED = Atom("unused")
    VSN = Atom("vsn")
    LOCK = Atom("lock")
    INSERT = Atom("insert")
    DELETE = Atom("delete")
    OK = Atom("ok")
    YES = Atom("yes")
    NO = Atom("no")
    NONE = Atom("none")
    UNDEFINED = Atom("undefined")
    BADRPC = Atom("badrpc")
    # Messages between the service's own processes
    HIS_THE_LOCKER = Atom("his_the_locker")
    CANCEL = Atom("cancel")
    EXTRA_NODEDOWN = Atom("extra_nodedown")
    RECHECK = Atom("recheck")
    # Messages from the runtime
    NODEUP = Atom("nodeup")
    NODEDOWN = Atom("nodedown")
    DOWN = Atom("DOWN")


@record(frozen=True)
class Cast:
    """Cast ``message`` to the server on ``node``, over an existing connection or not at all.

    While the connection is being set up, the message waits for it.
    """

    node: Atom
    message: Term


@record(frozen=True)
class Send:
    """Send ``message`` without a cast's wrapping to the server on ``node``, over an existing connection or not at
    all.
    """

    node: Atom
    message: Term


@record(frozen=True)
class SendToLocker:
    """Send ``message`` to this node's locker."""

    message: Term


@record(frozen=True)
class Connect:
    """Connect to ``node``, then cast ``in_sync`` to it. A failure is handled like a lost connection."""

    node: Atom


@record(frozen=True)
class Disconnect:
    """Close the connection to ``node``. ``reason`` is for the log."""

    node: Atom
    reason: str


@record(frozen=True)
class Recheck:
    """After ``seconds``, call :meth:`Partitions.recheck` for ``node``."""

    node: Atom
    seconds: float


@record(frozen=True)
class Monitor:
    """Increment the number of reasons to monitor ``pid``. The first one sets the monitor."""

    pid: Pid


@record(frozen=True)
class Demonitor:
    """Decrement the number of reasons to monitor ``pid``. The last one removes the monitor."""

    pid: Pid


@record(frozen=True)
class Conflict:
    """One name that two partitions registered for two processes."""

    name: Term
    peer_pid: Pid
    peer_method: Term
    local_pid: Pid
    local_method: Term


@record(frozen=True)
class Resolve:
    """Call the resolve methods of ``conflicts`` in a separate process.

    The process then casts ``{exchange_ops, Node, Tag, Operations, Resolved}`` to the server.
    """

    node: Atom
    tag: int
    operations: tuple[Term, ...]
    conflicts: tuple[Conflict, ...]


@record(frozen=True)
class StopResolving:
    """The session with ``node`` is over: stop the process that resolves its conflicts."""

    node: Atom


@record(frozen=True)
class Reply:
    """Reply to a call. ``caller`` is its ``{Pid, Tag}``."""

    caller: tuple[Pid, Term]
    answer: Term


Effect: TypeAlias = (
    Cast | Send | SendToLocker | Connect | Disconnect | Recheck | Monitor | Demonitor | Resolve | StopResolving | Reply
)


def claimed_sender(message: Term, own_node: Atom) -> Atom | None:
    """Return the node that has sent a message to the server, as the message says.

    It is ``own_node`` for what only this node sends. None is an unknown message, or ``lost_connection``: servers pass
    that on in the name of the node that lost a connection.
    """
    match message:
        case (Atoms.NODEUP | Atoms.NODEDOWN | Atoms.EXTRA_NODEDOWN | Atoms.RECHECK | Atoms.DOWN, *_):
            return own_node
        case (Atoms.WHEREIS, _, (Pid() as caller, _)):
            return caller.node
        case (Atoms.INIT_CONNECT_ACK | Atoms.CANCEL_CONNECT | Atoms.REMOVE_CONNECTION, Atom() as sender, *_):
            return sender
        case tuple((kind, (Pid() as caller, _), _)) if kind is GEN_CALL:
            return caller.node
        case tuple((kind, cast)) if kind is GEN_CAST:
            return _claimed_sender_of_cast(cast, own_node)
    return None


def _claimed_sender_of_cast(cast: Term, own_node: Atom) -> Atom | None:
    match cast:
        case (Atoms.LOCK_IS_SET | Atoms.EXCHANGE_OPS, *_):  # Our own locker and resolver name the peer of the session.
            return own_node
        case (Atoms.LOCK_SET, Pid() as locker, *_):
            return locker.node
        case (Atoms.INIT_CONNECT, _, Atom() as sender, _):
            return sender
        case (Atoms.EXCHANGE | Atoms.RESOLVED | Atoms.NEW_NODES | Atoms.IN_SYNC, Atom() as sender, *_):
            return sender
    return None
