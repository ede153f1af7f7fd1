"""Opens a connection in the calling thread: host name, EPMD, TCP, handshake. Every step ends at one deadline.

Deadlines are times of ``time.monotonic``.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from erlmesh.errors import ConnectError, ErlmeshError, HandshakeTimeout, RemoteProtocolError
from erlmesh.net.fork_guard import close_in_children
from erlmesh.proto import epmd
from erlmesh.proto.channel import Channel
from erlmesh.proto.flags import HIDDEN
from erlmesh.proto.handshake import HandshakeCompleted, LocalNode, initiate, is_long_name
from erlmesh.proto.handshake_driver import HandshakeDriver, HandshakeFailed
from erlmesh.records import field, record
from erlmesh.sync.peer_link import PeerLink
from erlmesh.sync.streams import PlainStream, Stream, TlsStream, time_left

if TYPE_CHECKING:
    from erlmesh.net.tls_contexts import TlsContexts

__all__ = ["DialOptions", "NameInUse", "dial", "source_address"]

MAX_ANSWER_BYTES: Final = 1 << 16
"""Bytes of EPMD's answer to read at most."""


class NameInUse(ConnectError):
    """The peer has a connection with another node of our name."""


@record(frozen=True)
class DialOptions:
    """How the nodes of a cluster are reached. ``port`` is the port of all nodes; None asks EPMD on ``epmd_port``."""

    cookie: str = field(repr=False)
    epmd_port: int
    port: int | None
    net_ticktime: float
    tls: TlsContexts | None = None


def dial(
    options: DialOptions,
    name: str,
    creation: int,
    peer: str,
    deadline: float,
    *,
    may_replace: bool,
    opened: Callable[[socket.socket], object],
) -> PeerLink:
    """Connect the hidden node ``name`` to ``peer``.

    If the peer has a connection with that name already, ``may_replace`` says whether it is ours and ends.
    ``opened(socket)`` is called before the handshake: to shut the socket down ends the attempt. Raises
    :class:`NameInUse`, and ConnectError for every other failure.
    """
    if is_long_name(name) != is_long_name(peer):
        long, short = (name, peer) if is_long_name(name) else (peer, name)
        raise ConnectError(f"{long} is a long node name and {short} a short one, and the two kinds do not mix")
    host = peer.partition("@")[2]
    port = _look_up_port(host, options.epmd_port, peer, deadline) if options.port is None else options.port
    sock = close_in_children(_connect(host, port, deadline, f"{peer} on port {port}"))
    try:
        opened(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        local = LocalNode(
            name, creation, lambda _: options.cookie, lambda: random.SystemRandom().getrandbits(32), set(), HIDDEN
        )
        stream = _open_stream(sock, options.tls, peer, deadline)
        completed, trailing = _shake_hands(stream, local, peer, deadline, may_replace=may_replace)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    channel = Channel(peer, name, completed.flags, now=time.monotonic(), net_ticktime=options.net_ticktime)
    return stream.make_link(channel, completed, trailing)


def source_address(host: str, deadline: float) -> str:
    """Return the address of this machine from which it reaches ``host``. No packet is sent. Raises ConnectError."""
    for family, _, _, _, address in _resolve(host, 9, deadline):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0]).partition("%")[0]
    return "127.0.0.1"


def _look_up_port(host: str, epmd_port: int, peer: str, deadline: float) -> int:
    """Ask the EPMD of ``host`` for the port of ``peer``."""
    alive = peer.partition("@")[0]
    with _connect(host, epmd_port, deadline, f"EPMD of {host} on port {epmd_port}") as sock:
        try:
            sock.sendall(epmd.encode_lookup(alive))
            answer = b""
            while len(answer) < MAX_ANSWER_BYTES and (piece := PlainStream(sock).receive(deadline)):
                answer += piece
            info = epmd.decode_lookup_response(answer)
        except TimeoutError:
            raise ConnectError(f"{host} does not answer on EPMD's port {epmd_port}") from None
        except OSError as error:
            raise ConnectError(f"cannot ask EPMD on {host} port {epmd_port}: {error.strerror or error}") from None
        except RemoteProtocolError as error:
            raise ConnectError(f"{host} port {epmd_port}: {error}") from None
    if info is None:
        raise ConnectError(f"the EPMD of {host} knows no node {alive!r}: it is not running, or has another name")
    if info.highest_version < 6:
        raise ConnectError(f"{peer} supports the distribution protocol only up to version {info.highest_version}")
    return info.port


def _connect(host: str, port: int, deadline: float, what: str) -> socket.socket:
    """Open a TCP connection to the first address of ``host`` that accepts it."""
    failure: OSError = OSError(f"{host!r} has no address")
    for family, kind, protocol, _, address in _resolve(host, port, deadline):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(time_left(deadline))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    if isinstance(failure, TimeoutError):
        raise HandshakeTimeout(f"no answer of {what} in time: is its host up, and the way to it open?") from None
    raise ConnectError(f"cannot reach {what}: {failure.strerror or failure}") from None


def _open_stream(sock: socket.socket, tls: TlsContexts | None, peer: str, deadline: float) -> Stream:
    """Return the stream for the handshake of the distribution protocol."""
    if tls is None:
        return PlainStream(sock)
    try:
        return TlsStream(sock, tls, peer.partition("@")[2], deadline)
    except TimeoutError:
        raise HandshakeTimeout(f"{peer} did not complete the TLS handshake in time: does it use TLS?") from None
    except OSError as error:
        raise ConnectError(f"the connection to {peer} was lost: {error.strerror or error}") from None


def _shake_hands(
    stream: Stream, local: LocalNode, peer: str, deadline: float, *, may_replace: bool
) -> tuple[HandshakeCompleted, bytes]:
    """Run the handshake. Return its result and the bytes that came behind it."""
    refused = False

    def keep_attempt() -> bool:
        nonlocal refused
        refused = not may_replace
        return may_replace

    now = time.monotonic()
    driver = HandshakeDriver(
        initiate(local, peer, keep_attempt), now=now, timeout=max(0.0, deadline - now), tls=stream.is_tls
    )
    while True:
        try:
            stream.send(driver.data_to_send(), deadline)
            data = stream.receive(deadline)
            events = driver.receive_data(data, time.monotonic()) if data else driver.receive_eof()
        except TimeoutError:
            raise HandshakeTimeout(f"{peer} did not complete the handshake in time") from None
        except OSError as error:
            raise ConnectError(f"the connection to {peer} was lost: {error.strerror or error}") from None
        for event in events:
            with contextlib.suppress(OSError):
                stream.send(driver.data_to_send(), deadline)
            if isinstance(event, HandshakeFailed):
                if refused:
                    raise NameInUse(f"{peer} has a connection with another node named {local.name}")
                raise _connect_error(event.error)
            return event, driver.trailing_data


def _connect_error(error: ErlmeshError) -> ErlmeshError:
    return error if isinstance(error, ConnectError) else ConnectError(str(error))


_Addresses = list[
    tuple[socket.AddressFamily, socket.SocketKind, int, str, "tuple[str, int] | tuple[str, int, int, int]"]
]


def _resolve(host: str, port: int, deadline: float) -> _Addresses:
    """Return the addresses of ``host``. Raises ConnectError.

    A name server may take minutes, and nothing can stop ``getaddrinfo``. So a name is looked up in a thread of its own.
    """
    with contextlib.suppress(socket.gaierror):  # an address needs no name server, and no thread
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)  # type: ignore[return-value]
    found: list[_Addresses | OSError] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))  # type: ignore[arg-type]
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=look_up, name=f"erlmesh look-up of {host}", daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if not found:
        raise HandshakeTimeout(f"the host {host!r} could not be resolved in time")
    result = found[0]
    if isinstance(result, OSError):
        raise ConnectError(f"the host {host!r} cannot be resolved here: {result.strerror}")
    return result
