"""The protocol of EPMD, the Erlang port mapper daemon, for both roles (``erl_dist_protocol``, "EPMD Protocol").

EPMD knows the listening port of every node of its host. A request is a length of two bytes and the request. A response
has no length: it is recognized by its first byte, or it ends with the connection. A registration lasts exactly as long
as the connection that made it.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable
from enum import IntEnum
from typing import Final

from erlmesh.errors import RemoteProtocolError
from erlmesh.proto.handshake_packets import is_node_name
from erlmesh.records import record

__all__ = [
    "DEFAULT_PORT",
    "EpmdRegistry",
    "NameTaken",
    "Names",
    "PortInfo",
    "Registered",
    "ServerConnection",
    "decode_lookup_response",
    "decode_names_response",
    "decode_register_response",
    "encode_lookup",
    "encode_names",
    "encode_register",
    "remake_request",
]

DEFAULT_PORT: Final = 4369
MAX_NAME: Final = 255
"""Bytes of a node name without its host."""
MAX_NODES: Final = 1024
"""Nodes of one host that may be registered."""
RETURNING_NODES: Final = 64
"""Nodes above that limit that may be registered, if their names were registered before."""
REQUEST_TIMEOUT: Final = 5.0
"""Seconds for a complete request; then EPMD closes the connection. OTP's epmd waits for 60 s (``packet_timeout`` in
``epmd_srv.c``). A node has fewer descriptors to spare.
"""


class Request(IntEnum):
    """The first byte of a request."""

    ALIVE2 = 120
    PORT_PLEASE2 = 122
    NAMES = 110
    DUMP = 100
    KILL = 107
    STOP = 115


ALIVE2_X_RESP, ALIVE2_RESP, PORT2_RESP = 118, 121, 119
"""First bytes of responses. ALIVE2_X_RESP has a creation of 32 bits, the older ALIVE2_RESP one of 16 bits."""

NORMAL_NODE, HIDDEN_NODE = 77, 72
PROTOCOL_TCP = 0
HIGHEST_VERSION, LOWEST_VERSION = 6, 5
"""The versions of the distribution protocol that OTP 25 registers, and we too."""

_NODE = struct.Struct(">HBBHH")
"""Port, node type, protocol, highest version, lowest version."""


@record(frozen=True)
class Registered:
    """The node is registered. ``creation`` distinguishes it from earlier incarnations of the same name."""

    creation: int


@record(frozen=True)
class NameTaken:
    """EPMD refused the registration: a running node of its host has the name, or the name is not valid."""


@record(frozen=True)
class PortInfo:
    """The port of a node, and the protocol versions that it supports."""

    port: int
    hidden: bool
    highest_version: int
    lowest_version: int


# The node's side


def _length_prefixed(body: bytes) -> bytes:
    return len(body).to_bytes(2, "big") + body


def encode_register(name: str, port: int, *, hidden: bool = False) -> bytes:
    """Return an ALIVE2_REQ. ``name`` is the node name without ``@host``."""
    text = name.encode()
    node_type = HIDDEN_NODE if hidden else NORMAL_NODE
    head = _NODE.pack(port, node_type, PROTOCOL_TCP, HIGHEST_VERSION, LOWEST_VERSION)
    # The last two bytes are the length of the empty Extra field.
    return _length_prefixed(bytes([Request.ALIVE2]) + head + len(text).to_bytes(2, "big") + text + b"\0\0")


def decode_register_response(data: bytes) -> Registered | NameTaken | None:
    """Decode the response to a registration; None if it is not complete yet. Raises RemoteProtocolError."""
    if not data:
        return None
    if data[0] not in (ALIVE2_X_RESP, ALIVE2_RESP):
        raise RemoteProtocolError(f"this is not EPMD: it answered a registration with byte {data[0]}")
    if len(data) < (6 if data[0] == ALIVE2_X_RESP else 4):
        return None
    if data[1] != 0:
        return NameTaken()
    return Registered(int.from_bytes(data[2:6] if data[0] == ALIVE2_X_RESP else data[2:4], "big"))


def encode_lookup(name: str) -> bytes:
    """Return a PORT_PLEASE2_REQ. ``name`` is the node name without ``@host``."""
    return _length_prefixed(bytes([Request.PORT_PLEASE2]) + name.encode())


def decode_lookup_response(data: bytes) -> PortInfo | None:
    """Decode the response to a look-up; None if EPMD knows no such node. Raises RemoteProtocolError.

    ``data`` is everything that EPMD sent before it closed the connection.
    """
    if len(data) < 2 or data[0] != PORT2_RESP:
        raise RemoteProtocolError(f"this is not EPMD: it answered a look-up with {data[:8]!r}")
    if data[1] != 0:
        return None
    if len(data) < 2 + _NODE.size:
        raise RemoteProtocolError("EPMD's response to a look-up is truncated")
    port, node_type, _, highest, lowest = _NODE.unpack_from(data, 2)
    return PortInfo(port, node_type == HIDDEN_NODE, highest, lowest)


def encode_names() -> bytes:
    """Return a NAMES_REQ."""
    return _length_prefixed(bytes([Request.NAMES]))


class Names(dict[str, int]):
    """The ports of registered nodes by name, without the host."""

    invalid: int = 0
    """The number of entries that are not node names. They are not in the dictionary."""


def decode_names_response(data: bytes) -> Names:
    """Decode the response to a NAMES_REQ. Raises RemoteProtocolError.

    ``data`` is everything that EPMD sent before it closed the connection. What is not a node name or a port is only
    counted: such a text may contain anything, for example control characters for a terminal.
    """
    if len(data) < 4:
        raise RemoteProtocolError("this is not EPMD: its list of names is truncated")
    names = Names()
    # EPMD's own port comes first, in four bytes. Then one line a node: "name NAME at port PORT".
    for line in data[4:].split(b"\n"):
        if not line:
            continue
        words = line.split(b" ")
        if len(words) == 5 and words[0] == b"name" and words[2:4] == [b"at", b"port"] and len(words[4]) <= 5:
            name, port = words[1].decode("latin-1"), words[4]
            if is_node_name(f"{name}@h") and port.isdigit() and int(port) < 65536:
                names[name] = int(port)
                continue
        names.invalid += 1
    return names


# EPMD's side


def remake_request(data: bytes) -> bytes | None:
    """Return the look-up or the request for all names that ``data`` contains, encoded anew; None if it is incomplete.

    A relay passes on the result and never the bytes of a client. Raises RemoteProtocolError for any other request.
    """
    if len(data) < 3:
        return None
    size = int.from_bytes(data[:2], "big")
    if size == 1 and data[2] == Request.NAMES:
        return encode_names()
    if not 2 <= size <= 1 + MAX_NAME or data[2] != Request.PORT_PLEASE2:
        raise RemoteProtocolError("other hosts may only look up nodes and list their names")
    if len(data) < 2 + size:
        return None
    try:
        name = data[3 : 2 + size].decode()
    except UnicodeDecodeError:
        name = ""
    if not name.isprintable() or not name:
        raise RemoteProtocolError("a node name is printable text")
    return encode_lookup(name)


@record
class _Node:
    name: bytes
    port: int
    node_type: int
    protocol: int
    highest_version: int
    lowest_version: int
    extra: bytes
    creation: int
    client: Hashable
    """The connection that made the registration."""


class EpmdRegistry:
    """The registered nodes of an EPMD, and the last creation of the names that were registered before.

    ``port`` is the port that EPMD listens on. ``max_creations`` limits the number of names with a stored creation. A
    name without a stored creation gets its creation from the ``creation_seed``. That number must grow over time, so
    that a creation differs from those of all earlier incarnations of the name.

    At most ``max_nodes`` are registered, because each keeps a connection open. ``own_name`` is never refused for this,
    and names that were registered before have ``RETURNING_NODES`` places more. So names that are new do not keep them
    from returning. A hostile program on this host can register a name twice, or take the name of a node.
    """

    def __init__(
        self, port: int, *, max_creations: int = 10_000, max_nodes: int = MAX_NODES, own_name: str | None = None
    ) -> None:
        self.port = port
        self.max_nodes = max_nodes
        self.refused = 0
        """How many registrations were refused because of ``max_nodes``."""
        self._own_name = own_name.encode() if own_name is not None else None
        self.nodes: dict[bytes, _Node] = {}
        self.changes = 0
        """How many times a node was registered or unregistered."""
        self._creations: dict[bytes, int] = {}  # the last creation by name, least recently registered name first
        self._max_creations = max_creations

    def names(self) -> dict[str, int]:
        """Return the ports of the registered nodes by name."""
        return {node.name.decode("utf-8", "replace"): node.port for node in self.nodes.values()}

    def client_disconnected(self, client: Hashable) -> None:
        """Unregister the node that the connection ``client`` registered, because the connection was closed."""
        for node in [node for node in self.nodes.values() if node.client == client]:
            del self.nodes[node.name]
            self.changes += 1

    def handle_alive2(self, request: bytes, client: Hashable, creation_seed: int) -> bytes:
        """Return the response to an ALIVE2_REQ (without its first byte); empty if the request is malformed."""
        node = _parse_node(request, client)
        if node is None:
            return b""
        large = node.highest_version >= 6  # since version 6 a creation has 32 bits, and the response is ALIVE2_X_RESP
        if len(node.name) > MAX_NAME or node.name in self.nodes or not self._has_room(node.name):
            return (  # result 1 is an error, without a reason; the real epmd sends creation 99 with it
                bytes([ALIVE2_X_RESP, 1]) + (99).to_bytes(4, "big")
                if large
                else bytes([ALIVE2_RESP, 1]) + (99).to_bytes(2, "big")
            )
        node.creation = self._next_creation(node.name, creation_seed, large=large)
        self.nodes[node.name] = node
        self.changes += 1
        if large:
            return bytes([ALIVE2_X_RESP, 0]) + node.creation.to_bytes(4, "big")
        return bytes([ALIVE2_RESP, 0]) + node.creation.to_bytes(2, "big")

    def _has_room(self, name: bytes) -> bool:
        if name == self._own_name:
            return True
        places = self.max_nodes + (RETURNING_NODES if name in self._creations else 0)
        if len(self.nodes) < places:
            return True
        self.refused += 1
        return False

    def _next_creation(self, name: bytes, creation_seed: int, *, large: bool) -> int:
        last = self._creations.pop(name, None)
        if large:
            # 0 is never a creation. 4 is the first one that no node with a creation of two bits can have.
            creation = (creation_seed & 0xFFFFFFFF if last is None else last + 1 & 0xFFFFFFFF) or 4
        else:
            creation = 1 if last is None else last % 3 + 1  # two bits: 1, 2, 3, 1, …
        self._creations[name] = creation  # at the end of the dict, so the oldest names are dropped first
        if len(self._creations) > self._max_creations:
            oldest = next((old for old in self._creations if old not in self.nodes), None)
            if oldest is not None:
                del self._creations[oldest]
        return creation

    def handle_port_please2(self, name: bytes) -> bytes:
        """Return the response to a PORT_PLEASE2_REQ for ``name``."""
        node = self.nodes.get(name)
        if node is None:
            return bytes([PORT2_RESP, 1])  # any result but 0 is an error
        head = _NODE.pack(node.port, node.node_type, node.protocol, node.highest_version, node.lowest_version)
        return b"".join((
            bytes([PORT2_RESP, 0]), head,
            len(name).to_bytes(2, "big"), name, len(node.extra).to_bytes(2, "big"), node.extra,
        ))  # fmt: skip

    def handle_names(self) -> bytes:
        """Return the response to a NAMES_REQ, newest node first, as the real epmd does."""
        lines = (b"name %b at port %d\n" % (node.name, node.port) for node in reversed(self.nodes.values()))
        return self.port.to_bytes(4, "big") + b"".join(lines)

    def handle_dump(self) -> bytes:
        """Return the response to a DUMP_REQ."""
        lines = (
            b"active name     <%b> at port %d, fd = 0\n\0" % (node.name, node.port) for node in self.nodes.values()
        )
        return self.port.to_bytes(4, "big") + b"".join(lines)


def _parse_node(request: bytes, client: Hashable) -> _Node | None:
    """Parse an ALIVE2_REQ without its first byte; None if it is malformed."""
    if len(request) < _NODE.size + 2:
        return None
    port, node_type, protocol, highest, lowest = _NODE.unpack_from(request)
    start = _NODE.size + 2
    end = start + int.from_bytes(request[start - 2 : start], "big")
    extra_end = end + 2 + int.from_bytes(request[end : end + 2], "big")
    name = request[start:end]
    # A NUL or a newline would corrupt the responses to NAMES_REQ and DUMP_REQ.
    if len(request) < extra_end or not name or b"\0" in name or b"\n" in name:
        return None
    return _Node(name, port, node_type, protocol, highest, lowest, request[end + 2 : extra_end], 0, client)


class ServerConnection:
    """One connection to our EPMD. It carries one request; :meth:`receive_data` collects it and returns the response.

    After the response the caller must close the connection if :attr:`should_close` is true. After a successful
    registration it stays open. When it ends, the caller must pass this object to
    :meth:`EpmdRegistry.client_disconnected`.

    If ``is_local`` is false, the client is on another host and may only look up nodes, as with the real epmd. Otherwise
    other hosts could register the names of our nodes.
    """

    def __init__(self, registry: EpmdRegistry, now: float) -> None:
        self._registry = registry
        self._received = b""
        self._deadline: float | None = now + REQUEST_TIMEOUT
        """None when the request is complete."""
        self.is_local = True
        """The client is on this host. The caller sets it before any data."""
        self.should_close = False
        """The request is complete and the connection must be closed after the response."""

    def receive_data(self, data: bytes, creation_seed: int) -> bytes:
        """Return the response to write, empty if there is none yet. Then check :attr:`should_close`."""
        if self._deadline is None:
            return b""  # EPMD ignores all data after a registration
        self._received += data
        if not self.is_local and self._is_refused():
            self.should_close = True
            return b""
        size = int.from_bytes(self._received[:2], "big") if len(self._received) >= 2 else None
        if size is None or len(self._received) < 2 + size:
            return b""
        self._deadline = None
        request = self._received[2 : 2 + size]
        return self._handle_request(request[:1], request[1:], creation_seed)

    def _is_refused(self) -> bool:
        """Whether the request of another host is one that it may not make. Nothing of it is kept."""
        try:
            remake_request(self._received)
        except RemoteProtocolError:
            return True
        return False

    def registers_taken_name(self, data: bytes) -> bool:
        """Return whether ``data`` completes the registration of a name that another connection has registered."""
        received = self._received + data
        node = _parse_node(received[3:], self) if received[2:3] == bytes([Request.ALIVE2]) else None
        return self._deadline is not None and node is not None and node.name in self._registry.nodes

    def _handle_request(self, request_tag: bytes, request: bytes, creation_seed: int) -> bytes:
        self.should_close = True
        match request_tag[0] if request_tag else 0:
            case Request.ALIVE2:
                answer = self._registry.handle_alive2(request, self, creation_seed)
                self.should_close = not answer
                return answer
            case Request.PORT_PLEASE2:
                return self._registry.handle_port_please2(request)
            case Request.NAMES:
                return self._registry.handle_names()
            case Request.DUMP:
                return self._registry.handle_dump()
            case Request.KILL:
                return b"NO"  # this EPMD stops with its node only; "NO" is the real epmd's refusal
        return b""  # an unknown request, or STOP_REQ, which the real epmd also refuses by default

    def next_deadline(self) -> float | None:
        """Return when to close the connection if its request is not complete by then; None if it is complete."""
        return self._deadline
