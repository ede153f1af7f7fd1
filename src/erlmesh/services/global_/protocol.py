"""The vocabulary of ``global``: its atoms, its protocol versions, and what its book-keeping asks to be done.

The book-keeping of this service (``global_sync``, ``global_partitions``, ``global_locks``, ``global_table``) is plain
data: a method is told what happened and returns a list of the effects below. ``global_server`` carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

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
]

# Versions of the protocol between two global_name_servers (the list at the top of OTP's global.erl).
VSN: Final = 8
VERIFY_CONNECT_VSN: Final = 8  # init_connect_ack, cancel_connect and a tag in lock_set exist from here on
PARTITION_VSN: Final = 7  # lost_connection, remove_connection, and lists of known nodes carry versions
TAGGED_VSN: Final = 6  # lock_set goes through the servers; below, from locker to locker
OLDEST_VSN: Final = 5

NET_SETUPTIME_SECONDS: Final = 7.0  # as long as a connection may take to come up

SERVER: Final = Atom("global_name_server")

LockId: TypeAlias = tuple[Term, Term]
"""``{ResourceId, LockRequesterId}``, as ``global:set_lock/1`` takes it."""


class Atoms:
    """Atoms on the wire; a class, so that ``match`` can name them."""

    GLOBAL = Atom("global")
    # casts and plain messages between servers
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
    # calls
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
    # parts of the above
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
    # between our own processes
    HIS_THE_LOCKER = Atom("his_the_locker")
    CANCEL = Atom("cancel")
    EXTRA_NODEDOWN = Atom("extra_nodedown")
    RECHECK = Atom("recheck")
    # from the runtime
    NODEUP = Atom("nodeup")
    NODEDOWN = Atom("nodedown")
    DOWN = Atom("DOWN")


@dataclass(frozen=True, slots=True)
class Cast:
    """Cast ``message`` to the server on ``node``. It waits for a connection that is being made, and makes none."""

    node: Atom
    message: Term


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``message`` as it is to the server on ``node``, over an existing connection or not at all."""

    node: Atom
    message: Term


@dataclass(frozen=True, slots=True)
class SendToLocker:
    """Send ``message`` to our locker."""

    message: Term


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect to ``node``, then cast ``in_sync`` to it; a failure counts as the loss of a connection."""

    node: Atom


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection to ``node``; ``why`` is for the log."""

    node: Atom
    reason: str


@dataclass(frozen=True, slots=True)
class Recheck:
    """After ``seconds``, see whether ``node`` has hung up."""

    node: Atom
    seconds: float


@dataclass(frozen=True, slots=True)
class Monitor:
    """One more reason to monitor ``pid``."""

    pid: Pid


@dataclass(frozen=True, slots=True)
class Demonitor:
    """One reason less to monitor ``pid``."""

    pid: Pid


@dataclass(frozen=True, slots=True)
class Conflict:
    """One name, two processes: ``theirs`` in the peer's partition, ``ours`` in our own."""

    name: Term
    peer_pid: Pid
    peer_method: Term
    local_pid: Pid
    local_method: Term


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask the methods of ``conflicts``, then report ``{exchange_ops, Node, Tag, Ops, Resolved}`` to the server."""

    node: Atom
    tag: int
    operations: tuple[Term, ...]
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True)
class StopResolving:
    """The session with ``node`` is over: nobody waits for its conflicts any more."""

    node: Atom


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the call of ``caller``, its ``{Pid, Tag}``."""

    caller: tuple[Pid, Term]
    answer: Term


Effect: TypeAlias = (
    Cast | Send | SendToLocker | Connect | Disconnect | Recheck | Monitor | Demonitor | Resolve | StopResolving | Reply
)
