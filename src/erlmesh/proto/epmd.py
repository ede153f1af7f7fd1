"""EPMD, the port mapper: which node of this host listens where. Both roles, as bytes (erl_dist_protocol, "EPMD").

A request is two bytes of length and the request; a response has no length, so each is known by its first byte or ends
with the connection. A registration lives exactly as long as the connection that made it.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from erlmesh.errors import RemoteProtocolError

__all__ = [
    "DEFAULT_PORT",
    "EpmdRegistry",
    "NameTaken",
    "PortInfo",
    "Registered",
    "ServerConnection",
    "decode_lookup_response",
    "decode_names_response",
    "decode_register_response",
    "encode_lookup",
    "encode_names",
    "encode_register",
]

DEFAULT_PORT: Final = 4369
MAX_NAME: Final = 255
REQUEST_TIMEOUT: Final = 60.0
"""Seconds after which a half-sent request is given up."""


class Request(IntEnum):
    """First bytes of requests."""

    ALIVE2 = 120
    PORT_PLEASE2 = 122
    NAMES = 110
    DUMP = 100
    KILL = 107
    STOP = 115


ALIVE2_X_RESP, ALIVE2_RESP, PORT2_RESP = 118, 121, 119

NORMAL_NODE, HIDDEN_NODE = 77, 72
PROTOCOL_TCP = 0
HIGHEST_VERSION, LOWEST_VERSION = 6, 5
"""The versions of the distribution protocol that we and OTP 25 register."""

_NODE = struct.Struct(">HBBHH")


@dataclass(frozen=True, slots=True)
class Registered:
    """The node is registered; ``creation`` tells its life from former ones of the same name."""

    creation: int


@dataclass(frozen=True, slots=True)
class NameTaken:
    """Another living node of that host has the name (or EPMD does not like it)."""


@dataclass(frozen=True, slots=True)
class PortInfo:
    """Where a node listens, and which versions it speaks."""

    port: int
    hidden: bool
    highest_version: int
    lowest_version: int


# The node's side


def _length_prefixed(body: bytes) -> bytes:
    return len(body).to_bytes(2, "big") + body


def encode_register(name: str, port: int, *, hidden: bool = False) -> bytes:
    """ALIVE2_REQ for the part of a node name before the ``@``."""
    text = name.encode()
    kind = HIDDEN_NODE if hidden else NORMAL_NODE
    head = _NODE.pack(port, kind, PROTOCOL_TCP, HIGHEST_VERSION, LOWEST_VERSION)
    return _length_prefixed(bytes([Request.ALIVE2]) + head + len(text).to_bytes(2, "big") + text + b"\0\0")


def decode_register_response(data: bytes) -> Registered | NameTaken | None:
    """The answer to a registration; None while it is not whole. Raises RemoteProtocolError."""
    if not data:
        return None
    if data[0] not in (ALIVE2_X_RESP, ALIVE2_RESP):
        raise RemoteProtocolError(f"that is no EPMD: it answered a registration with byte {data[0]}")
    if len(data) < (6 if data[0] == ALIVE2_X_RESP else 4):
        return None
    if data[1] != 0:
        return NameTaken()
    return Registered(int.from_bytes(data[2:6] if data[0] == ALIVE2_X_RESP else data[2:4], "big"))


def encode_lookup(name: str) -> bytes:
    """PORT_PLEASE2_REQ."""
    return _length_prefixed(bytes([Request.PORT_PLEASE2]) + name.encode())


def decode_lookup_response(data: bytes) -> PortInfo | None:
    """The whole answer to a look-up, after EPMD closed: None if it knows no such node. Raises RemoteProtocolError."""
    if len(data) < 2 or data[0] != PORT2_RESP:
        raise RemoteProtocolError(f"that is no EPMD: it answered a look-up with {data[:8]!r}")
    if data[1] != 0:
        return None
    if len(data) < 2 + _NODE.size:
        raise RemoteProtocolError("EPMD's answer to a look-up breaks off")
    port, kind, _, highest, lowest = _NODE.unpack_from(data, 2)
    return PortInfo(port, kind == HIDDEN_NODE, highest, lowest)


def encode_names() -> bytes:
    """NAMES_REQ."""
    return _length_prefixed(bytes([Request.NAMES]))


def decode_names_response(data: bytes) -> dict[str, int]:
    """The whole answer to a request for the names: ports by name. Raises RemoteProtocolError."""
    if len(data) < 4:
        raise RemoteProtocolError("that is no EPMD: its list of names breaks off")
    names = {}
    for line in data[4:].decode("utf-8", "replace").splitlines():
        words = line.split(" ")
        if len(words) == 5 and words[0] == "name" and words[2:4] == ["at", "port"] and words[4].isdigit():
            names[words[1]] = int(words[4])
    return names


# EPMD's side


@dataclass(slots=True)
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


class EpmdRegistry:
    """What an EPMD knows: the living nodes, and the last creation of every name that ever registered.

    ``port`` is the one it listens on, and ``remembered`` bounds the names it keeps a creation for. The creation of a
    name that is new here is the ``moment``: a number that has grown since any life of the name before.
    """

    def __init__(self, port: int, *, max_creations: int = 10_000) -> None:
        self.port = port
        self.nodes: dict[bytes, _Node] = {}
        self._creations: dict[bytes, int] = {}
        self._max_creations = max_creations

    def names(self) -> dict[str, int]:
        """Ports of the living nodes by name."""
        return {node.name.decode("utf-8", "replace"): node.port for node in self.nodes.values()}

    def client_disconnected(self, client: Hashable) -> None:
        """The connection ``client`` has ended, and what it registered with it."""
        for node in [node for node in self.nodes.values() if node.client == client]:
            del self.nodes[node.name]

    def handle_alive2(self, request: bytes, client: Hashable, creation_seed: int) -> bytes:
        """Answers ALIVE2_REQ (without its first byte)."""
        node = _parse_node(request, client)
        if node is None:
            return b""
        large = node.highest_version >= 6
        if len(node.name) > MAX_NAME or node.name in self.nodes:
            return (
                bytes([ALIVE2_X_RESP, 1]) + (99).to_bytes(4, "big")
                if large
                else bytes([ALIVE2_RESP, 1]) + (99).to_bytes(2, "big")
            )
        node.creation = self._next_creation(node.name, creation_seed, large=large)
        self.nodes[node.name] = node
        if large:
            return bytes([ALIVE2_X_RESP, 0]) + node.creation.to_bytes(4, "big")
        return bytes([ALIVE2_RESP, 0]) + node.creation.to_bytes(2, "big")

    def _next_creation(self, name: bytes, creation_seed: int, *, large: bool) -> int:
        last = self._creations.pop(name, None)
        if large:
            creation = (creation_seed & 0xFFFFFFFF if last is None else last + 1 & 0xFFFFFFFF) or 4
        else:
            creation = 1 if last is None else last % 3 + 1
        self._creations[name] = creation  # last in order: the names least used are forgotten first
        if len(self._creations) > self._max_creations:
            forgotten = next((old for old in self._creations if old not in self.nodes), None)
            if forgotten is not None:
                del self._creations[forgotten]
        return creation

    def handle_port_please2(self, name: bytes) -> bytes:
        """Answers PORT_PLEASE2_REQ."""
        node = self.nodes.get(name)
        if node is None:
            return bytes([PORT2_RESP, 1])
        head = _NODE.pack(node.port, node.node_type, node.protocol, node.highest_version, node.lowest_version)
        return b"".join((
            bytes([PORT2_RESP, 0]), head,
            len(name).to_bytes(2, "big"), name, len(node.extra).to_bytes(2, "big"), node.extra,
        ))  # fmt: skip

    def handle_names(self) -> bytes:
        """Answers NAMES_REQ."""
        lines = (b"name %b at port %d\n" % (node.name, node.port) for node in reversed(self.nodes.values()))
        return self.port.to_bytes(4, "big") + b"".join(lines)

    def handle_dump(self) -> bytes:
        """Answers DUMP_REQ."""
        lines = (
            b"active name     <%b> at port %d, fd = 0\n\0" % (node.name, node.port) for node in self.nodes.values()
        )
        return self.port.to_bytes(4, "big") + b"".join(lines)


def _parse_node(request: bytes, client: Hashable) -> _Node | None:
    if len(request) < _NODE.size + 2:
        return None
    port, kind, protocol, highest, lowest = _NODE.unpack_from(request)
    start = _NODE.size + 2
    end = start + int.from_bytes(request[start - 2 : start], "big")
    extra_end = end + 2 + int.from_bytes(request[end : end + 2], "big")
    name = request[start:end]
    if len(request) < extra_end or not name or b"\0" in name or b"\n" in name:
        return None
    return _Node(name, port, kind, protocol, highest, lowest, request[end + 2 : extra_end], 0, client)


_REMOTE_REQUESTS: Final = frozenset({bytes([Request.PORT_PLEASE2]), bytes([Request.NAMES])})


class ServerConnection:
    """One connection to our EPMD: ``receive_data`` collects its one request and says what to answer.

    After an answer to a registration the connection stays open, and its end is to be told to :meth:`Registry.gone`;
    after all others it is to be closed (``close`` says which). Unless it is ``local``, from this very host, it may only
    ask for names, as with a real epmd: else strangers could take the names and the ports of our nodes.
    """

    def __init__(self, registry: EpmdRegistry, client_id: Hashable, now: float) -> None:
        self._registry = registry
        self._client_id = client_id
        self._received = b""
        self._deadline: float | None = now + REQUEST_TIMEOUT
        self.is_local = True
        self.should_close = False

    def receive_data(self, data: bytes, creation_seed: int) -> bytes:
        """The answer to write, empty while the request is not whole; then look at :attr:`close`."""
        if self._deadline is None:
            return b""  # registered: whatever a node says now, EPMD does not listen
        self._received += data
        size = int.from_bytes(self._received[:2], "big") if len(self._received) >= 2 else None
        if size is None or len(self._received) < 2 + size:
            return b""
        self._deadline = None
        request = self._received[2 : 2 + size]
        return self._handle_request(request[:1], request[1:], creation_seed)

    def _handle_request(self, request_tag: bytes, request: bytes, creation_seed: int) -> bytes:
        self.should_close = True
        if not self.is_local and request_tag not in _REMOTE_REQUESTS:
            return b""
        match request_tag[0] if request_tag else 0:
            case Request.ALIVE2:
                answer = self._registry.handle_alive2(request, self._client_id, creation_seed)
                self.should_close = not answer
                return answer
            case Request.PORT_PLEASE2:
                return self._registry.handle_port_please2(request)
            case Request.NAMES:
                return self._registry.handle_names()
            case Request.DUMP:
                return self._registry.handle_dump()
            case Request.KILL:
                return b"NO"  # this EPMD ends with its node, not at a stranger's word
        return b""

    def next_deadline(self) -> float | None:
        """When to close the connection if its request is still not whole."""
        return self._deadline
