"""The synchronous front: a hidden node for Django, Flask, Celery tasks, scripts and notebooks."""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from erlmesh.core import gen
from erlmesh.errors import ConnectError, NoConnection, NodeNotAlive
from erlmesh.net.cookie_files import find_cookie
from erlmesh.net.epmd_port import default_port
from erlmesh.proto.channel import NET_TICKTIME
from erlmesh.proto.handshake import is_node_name
from erlmesh.services.group_leader import to_stdout
from erlmesh.services.group_names import normalize_group_name
from erlmesh.services.rpc.outcomes import MFA, Replies
from erlmesh.sync.calls import Destination, call, deadline_after, send
from erlmesh.sync.dialler import DialOptions
from erlmesh.sync.groups import GroupChanges, members
from erlmesh.sync.process import SyncProcess
from erlmesh.sync.rpc import cast, multicall, rpc
from erlmesh.sync.session import Session
from erlmesh.terms import Atom, Pid, SendableTerm, Term

if TYPE_CHECKING:
    from erlmesh.net.tls_config import TlsConfig
    from erlmesh.net.tls_contexts import TlsContexts

__all__ = ["SyncNode", "connect"]

PG: Final = Atom("pg")


def connect(
    peer: Atom | str,
    *,
    cookie: str | None = None,
    cookie_file: str | os.PathLike[str] | None = None,
    name: str | None = None,
    epmd_port: int | None = None,
    port: int | None = None,
    net_ticktime: float = NET_TICKTIME,
    tls: TlsConfig | None = None,
    output: Callable[[str], object] = to_stdout,
) -> SyncNode:
    """A node for code without an event loop, beside the node ``peer``. ::

        with erlmesh.connect("wallet@10.0.0.5", cookie_file="/run/secrets/cookie") as node:
            node.call("Elixir.Wallet", (Atom("balance"), 7), timeout=2)

    The node is hidden, listens on no port and is not registered with EPMD. It connects at the start of ``with``, or
    when it is used for the first time. So a module may make it before a server forks its workers: each process connects
    for itself, under a name of its own. It connects to other nodes too, when a call or a message goes there. All
    threads may use it.

    - ``cookie``, or a ``cookie_file``. Without both, it is found as by ``erlmesh start``: in the environment, in
      ``~/.erlang.cookie``, or in ``/run/secrets/cookie``.
    - ``name``: the part of the node name before ``@``, by default ``python``. The number of the process follows. With
      an ``@`` it is the whole name, and no other program may have it; forked children add their number.
    - ``epmd_port``: EPMD's port, by default ``ERL_EPMD_PORT`` or 4369.
    - ``port``: the port on which all nodes listen, if they use no EPMD.
    - ``net_ticktime``: see :class:`NodeConfig`.
    - ``tls``: certificates, as for :class:`Node`. All connections of the node then use TLS.
    - ``output``: gets the text that functions print which :meth:`SyncNode.rpc` calls.

    Raises NodeStartError if no cookie is found or a certificate is not valid, and ``ValueError`` for malformed
    arguments. It does not connect.
    """
    full = Atom(peer).name
    if not is_node_name(full):
        raise ValueError(f"{full!r} is not a node name: it looks like wallet@127.0.0.1")
    if not net_ticktime > 0:
        raise ValueError(f"net_ticktime is a positive number of seconds, not {net_ticktime!r}")
    found = find_cookie(cookie, None if cookie_file is None else str(Path(cookie_file).expanduser()), os.environ)
    options = DialOptions(found, default_port() if epmd_port is None else epmd_port, port, net_ticktime, _load(tls))
    return SyncNode(options, full, name, output)


class SyncNode:
    """A hidden node for code without an event loop. :func:`connect` makes it.

    While no thread is in a call, a background thread answers ticks and notices a lost connection. The node then
    connects again, with growing pauses. A call meanwhile raises :class:`NoConnection` at once if the last attempt has
    failed.
    """

    def __init__(self, options: DialOptions, peer: str, name: str | None, output: Callable[[str], object]) -> None:
        self.peer = peer
        """The node whose name was given to :func:`connect`."""
        self._options = options
        self._given_name = name
        self._output = output
        self._creator = os.getpid()
        self._current: Session | None = None
        self._closed = False
        self._process: SyncProcess | None = None
        self._lock = threading.Lock()
        with _nodes_lock:
            taken = {node._number for node in list(_nodes)}
            self._number: int = next(number for number in itertools.count() if number not in taken)
            """Differs from that of every other node of this program that is not closed."""
            _nodes.add(self)

    def __enter__(self) -> Self:
        """Connect. Raises ConnectError, with the reason."""
        try:
            self._session().link_to(Atom(self.peer), None)
        except NoConnection as error:
            if isinstance(error.__cause__, ConnectError):
                raise error.__cause__ from None
            raise ConnectError(str(error)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, and end all processes. Calls that wait raise :class:`NodeNotAlive`."""
        with self._lock:
            self._closed = True
            session, self._current = self._current, None
        _nodes.discard(self)
        if session is not None:
            if session.is_foreign():
                session.abandon()
            else:
                session.close()

    def _session(self) -> Session:
        """Return the session of this operating system process. The first use in a forked child makes a new one."""
        session = self._current
        if session is not None and session.pid == os.getpid():
            return session
        if session is not None:
            # A program that forks without Python's hooks, as uWSGI. Another thread of the parent may hold the lock.
            self._after_fork()
        with self._lock:
            if self._closed:
                raise NodeNotAlive("the node is closed")
            if self._current is None:
                self._current = Session(self._options, self._session_name(), self.peer, self._output)
            return self._current

    def _session_name(self) -> str:
        """Return a name that no other process of this machine has, from a set that is not large.

        A BEAM never frees the atom of a name. So the names of short programs must repeat.
        """
        given = self._given_name or "python"
        base, at, host = given.partition("@")
        if at and os.getpid() == self._creator:
            return given
        number = f"{os.getpid() % 10_000}" + (f"-{self._number}" if self._number else "")
        return f"{base}-{number}{at}{host}"

    def _after_fork(self) -> None:
        """Forget the session of the parent. Its connections stay open there."""
        session, self._current = self._current, None
        self._lock, self._process = threading.Lock(), None
        if session is not None:
            session.abandon()

    def _after_fork_hook(self) -> None:
        """Close the descriptors at once in a child of Python's own fork."""
        self._after_fork()

    # This node

    @property
    def name(self) -> str:
        """The name of this node. It connects if there was no connection yet. Raises NoConnection."""
        self._connected()
        return self._session().name

    @property
    def pid(self) -> Pid:
        """The process of :meth:`receive`. Other nodes can send to it."""
        return self._own_process().pid

    def process(self, name: Atom | str | None = None) -> SyncProcess:
        """Start a process with a mailbox of its own, for example for one thread. Close it, or use it with ``with``.

        Other nodes can send to ``(name, node)`` if it has a ``name``. Raises NoConnection, and ``ValueError`` if the
        name is taken.
        """
        session = self._connected()
        with session.lock:
            return SyncProcess(session, session.router.open_mailbox(None if name is None else Atom(name)))

    def _own_process(self) -> SyncProcess:
        process = self._process
        if process is None or not process.alive:
            made = self.process()
            with self._lock:
                if self._process is process:
                    self._process = made
                process = self._process
            assert process is not None
        return process

    def _connected(self) -> Session:
        session = self._session()
        if not session.has_name:
            session.link_to(Atom(self.peer), None)
        return session

    # Messages and calls

    def call(self, to: Destination, request: SendableTerm, *, timeout: float | None = 5.0) -> Term:
        """``gen_server:call``: send the request and return the reply.

        ``to`` is a pid, a name that is registered on :attr:`peer`, or ``(name, node)``.

        Raises NoProcess, NoConnection, CalleeExited, CallTimeout after ``timeout`` seconds (then a late reply is
        dropped), and EncodeError if the request is not a term.
        """
        return call(self._session(), to, request, timeout)

    def cast(self, to: Destination, message: SendableTerm, *, timeout: float | None = 5.0) -> None:
        """``gen_server:cast``: send ``{'$gen_cast', message}`` as :meth:`send` does."""
        self.send(to, gen.cast(message), timeout=timeout)

    def send(self, to: Destination, message: SendableTerm, *, timeout: float | None = 5.0) -> None:
        """Send a message (``!``). A message to a process that does not exist is dropped.

        ``to`` is a pid, an alias, a name that is registered on :attr:`peer`, or ``(name, node)``. It waits only for a
        connection, and while more than 1 MiB wait to be written. Raises NoConnection, CallTimeout and EncodeError.
        """
        session = self._connected()
        send(session, to, message, timeout, self._own_process().pid)

    def receive(self, match: Callable[[Term], bool] | None = None, *, timeout: float | None = None) -> Term:
        """Receive a message to :attr:`pid`. All threads share that mailbox. See :meth:`SyncProcess.receive`."""
        return self._own_process().receive(match, timeout=timeout)

    # Functions of other nodes

    def rpc(
        self,
        module: Atom | str,
        function: Atom | str,
        arguments: Sequence[SendableTerm] = (),
        *,
        node: Atom | str | None = None,
        timeout: float | None = 5.0,
    ) -> Term:
        """Call a function on ``node`` (by default :attr:`peer`) in a new process there, and return its value. ::

            node.rpc("lists", "sum", [[1, 2, 3]])

        Raises RemoteThrow, RemoteExit or RemoteError if the function raised, CalleeExited if its process was
        terminated, NoConnection, CallTimeout after ``timeout`` seconds (the function continues there, as with OTP), and
        EncodeError if an argument is not a term.
        """
        return rpc(self._session(), Atom(node or self.peer), _mfa(module, function, arguments), timeout)

    def multicall(
        self,
        nodes: Iterable[Atom | str],
        module: Atom | str,
        function: Atom | str,
        arguments: Sequence[SendableTerm] = (),
        *,
        timeout: float | None = 5.0,
    ) -> Replies:
        """Call a function on several nodes at the same time. The result has the values and the errors by node name."""
        if isinstance(nodes, str | bytes | Atom):
            raise TypeError(f"the first argument of multicall is a list of nodes, not {nodes!r}")
        return multicall(self._session(), map(Atom, nodes), _mfa(module, function, arguments), timeout)

    def rpc_cast(
        self,
        module: Atom | str,
        function: Atom | str,
        arguments: Sequence[SendableTerm] = (),
        *,
        node: Atom | str | None = None,
        timeout: float | None = 5.0,
    ) -> None:
        """Call a function on ``node`` (by default :attr:`peer`) without waiting. Raises NoConnection."""
        cast(self._session(), Atom(node or self.peer), _mfa(module, function, arguments), timeout)

    # Other nodes and groups

    def ping(self, name: Atom | str | None = None, *, timeout: float | None = 5.0) -> bool:
        """Connect to ``name`` (by default :attr:`peer`) if needed. True if it answers ``net_adm:ping``."""
        session, peer = self._session(), Atom(name or self.peer)
        try:
            session.link_to(peer, deadline_after(timeout))
            answer = call(session, ("net_kernel", peer), (Atom("is_auth"), Atom(session.name)), timeout)
        except (NoConnection, TimeoutError):
            return False
        return answer is Atom("yes")

    def members(self, group: SendableTerm, *, scope: Atom | str = PG, timeout: float | None = 5.0) -> list[Pid]:
        """The members of a ``pg`` group, as :attr:`peer` knows them. A process that joined twice is there twice.

        A text is a binary as a name, as everywhere; an Erlang atom is ``Atom("name")``. Raises as :meth:`rpc` does.
        """
        return members(self._session(), Atom(scope), normalize_group_name(group), timeout)

    def watch(self, group: SendableTerm, *, scope: Atom | str = PG, timeout: float | None = None) -> GroupChanges:
        """The members of a ``pg`` group now and its changes, :class:`Joined` and :class:`Left`, for ``for``. ::

            for change in node.watch(Atom("workers"), timeout=60):
                print(change)

        The first event is the Joined of the current members, if there are any. If the connection is lost, all members
        are Left with the reason ``noconnection``; they are Joined when it is up again. The iteration ends if nothing
        changes for ``timeout`` seconds. The scope has to run on :attr:`peer`.
        """
        return GroupChanges(self._connected(), Atom(scope), normalize_group_name(group), timeout)

    def __repr__(self) -> str:
        return f"<SyncNode beside {self.peer}>"


def _load(tls: TlsConfig | None) -> TlsContexts | None:
    if tls is None:
        return None
    from erlmesh.net.tls_contexts import TlsContexts  # noqa: PLC0415 - only programs with TLS load ssl

    contexts = TlsContexts(tls)
    contexts.load()
    return contexts


def _mfa(module: Atom | str, function: Atom | str, arguments: Sequence[SendableTerm]) -> MFA:
    return Atom(module), Atom(function), list(arguments)


_nodes: Final[weakref.WeakSet[SyncNode]] = weakref.WeakSet()
"""The nodes that are not closed."""
_nodes_lock = threading.Lock()


def _after_fork() -> None:
    global _nodes_lock  # noqa: PLW0603 - another thread of the parent may have held it
    _nodes_lock = threading.Lock()
    for node in list(_nodes):
        node._after_fork_hook()


def _close_all() -> None:
    for node in list(_nodes):
        node.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_close_all)
