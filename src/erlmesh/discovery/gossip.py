"""Find nodes by gossip, as libcluster's ``Cluster.Strategy.Gossip`` does: the socket and the task."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Callable
from random import Random
from typing import Any

from erlmesh.discovery.gossip_book import GossipBook
from erlmesh.discovery.gossip_messages import GossipCipher, Malformed, encode_heartbeat, parse_heartbeat
from erlmesh.discovery.gossip_settings import GossipSettings
from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.terms.foreign_text import ForeignText

__all__ = ["Gossip", "open_socket"]

log = event_log("erlmesh.discovery")
_peer_log = PeerLog(log)

RETRY = 10.0
"""Seconds until the next attempt to open the socket."""


class Gossip:
    """Sends heartbeats of the node ``own_name``, and calls ``found(name)`` for a new node.

    ``host`` is the host of the node's name. Its network is used if there is no default route.
    """

    def __init__(
        self, settings: GossipSettings, own_name: str, *, rng: Random, now: float, found: Callable[[str], object]
    ) -> None:
        self._settings = settings
        self._own_name = own_name
        self._found = found
        self._cipher = None if settings.secret is None else GossipCipher(settings.secret)
        self._book = GossipBook(own_name, rng, now)
        self._transport: asyncio.DatagramTransport | None = None
        self._last_fault: str | None = None

    @property
    def max_nodes(self) -> int:
        """How many of the names are dialled."""
        return self._settings.max_nodes

    def names(self, now: float) -> list[str]:
        """The nodes that were heard lately."""
        return self._book.names(now)

    async def run(self) -> None:
        """Send and listen until the task is cancelled. A network that is not ready is tried again."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                if self._transport is None or self._transport.is_closing():
                    await self._open()
                if self._transport is None:
                    await asyncio.sleep(RETRY)
                    continue
                if self._book.heartbeat_due(loop.time()):
                    self._send()
                if report := self._book.report_due(loop.time()):
                    log.warning(
                        "gossip_report",
                        "gossip %s:%d: %s",
                        self._settings.address,
                        self._settings.port,
                        report,
                        reason=report,
                    )
                await asyncio.sleep(max(self._book.next_deadline() - loop.time(), 0.01))
        finally:
            if self._transport is not None:
                self._transport.close()

    async def _open(self) -> None:
        try:
            opened = open_socket(self._settings, self._own_name.partition("@")[2])
            endpoint = asyncio.get_running_loop().create_datagram_endpoint(lambda: _Receiver(self), sock=opened)
            self._transport, _ = await endpoint
        except OSError as fault:
            self._transport = None
            self.failed(fault)

    def _send(self) -> None:
        assert self._transport is not None
        heartbeat = encode_heartbeat(self._own_name)
        datagram = heartbeat if self._cipher is None else self._cipher.encrypt(heartbeat)
        self._transport.sendto(datagram, (self._settings.address, self._settings.port))

    def received(self, datagram: bytes) -> None:
        """A datagram has arrived, from anybody."""
        try:
            name = parse_heartbeat(datagram if self._cipher is None else self._cipher.decrypt(datagram))
        except Malformed as malformed:
            self._book.malformed(str(malformed))
            return
        self._last_fault = None
        if self._book.heard(name, asyncio.get_running_loop().time()):
            _peer_log.debug("gossip_heard", "gossip: heard %s", ForeignText(name), peer=name)
            self._found(name)

    def failed(self, fault: Exception) -> None:
        """The socket cannot be opened, or a heartbeat cannot be sent."""
        if str(fault) != self._last_fault:
            self._last_fault = str(fault)
            log.warning(
                "gossip_failed",
                "gossip %s:%d: %s; %s",
                self._settings.address,
                self._settings.port,
                fault,
                self._advice(),
                reason=fault,
            )

    def _advice(self) -> str:
        if self._settings.is_multicast:
            return "give the own address with interface=ADDRESS if this machine has several networks"
        return "give the broadcast address of the network, such as gossip:10.0.0.255, if there is no default route"


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, gossip: Gossip) -> None:
        self._gossip = gossip

    def datagram_received(self, data: bytes, _address: Any) -> None:
        self._gossip.received(data)

    def error_received(self, fault: Exception) -> None:
        self._gossip.failed(fault)


def open_socket(settings: GossipSettings, host: str) -> socket.socket:
    """A socket that gets the datagrams to the address, also those of other programs of this machine. Raises OSError."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
    try:
        opened.setblocking(False)
        # Several nodes of one machine share the port. On Linux, SO_REUSEADDR is what libcluster's socket has; with
        # SO_REUSEPORT alone the second bind would fail.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not sys.platform.startswith("linux"):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        opened.bind(("", settings.port))
        if settings.is_multicast:
            _join(opened, settings, host)
    except BaseException:
        opened.close()
        raise
    return opened


def _join(opened: socket.socket, settings: GossipSettings, host: str) -> None:
    """Join the multicast group on one network, and send to that network."""
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, settings.ttl)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    group = socket.inet_aton(settings.address)
    any_network = bytes(4)
    candidates = [any_network]
    if settings.interface is not None:
        candidates = [socket.inet_aton(settings.interface)]
    else:
        with contextlib.suppress(OSError):  # A machine without a default route: the network of the node's own address.
            candidates.append(socket.inet_aton(host))
    for network in candidates:
        try:
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4s4s", group, network))
        except OSError:
            if network == candidates[-1]:
                raise
            continue
        if network != any_network:
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, network)
        return
