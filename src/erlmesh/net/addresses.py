"""The addresses of this machine, and the choice of the one by which other machines reach it.

Linux only. Nothing is sent to the network and no external program is run.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Final

from erlmesh.errors import NodeStartError
from erlmesh.net.event_log import event_log
from erlmesh.records import record

__all__ = [
    "HostInfo",
    "address_group",
    "has_ipv6_loopback",
    "is_loopback",
    "local_addresses",
    "own_address",
    "parse_fib_trie",
]

log = event_log("erlmesh")

UNROUTED_ADDRESS: Final = ("192.0.2.1", 9)
"""An address reserved for documentation (RFC 5737). A UDP ``connect`` to it looks up the route and sends nothing."""
_LOOPBACK_6: Final = bytes(15) + b"\1"
_MAPPED_IPV4: Final = bytes(10) + b"\xff\xff"


@record(frozen=True)
class HostInfo:
    """Facts about this machine from which :func:`own_address` chooses an address."""

    host: str | None
    """The host that the user configured (ERLMESH_HOST), if any."""
    hostname: str
    etc_hosts: str
    """The text of /etc/hosts."""
    interface_addresses: tuple[str, ...]
    """The IPv4 addresses of all interfaces."""
    source_address: str | None
    """The source address of packets that leave by the default route; None without such a route."""
    discovered: tuple[str, ...] = ()
    """The addresses at which discovery looks for nodes of the cluster. One of them may be ours."""

    @classmethod
    def detect(cls, host: str | None = None, discovery_names: Sequence[str] = ()) -> HostInfo:
        """Return the facts about this machine now. It resolves the names, so it may block for seconds."""
        found = tuple(address for name in discovery_names for address in _resolve(name))
        hosts, local, towards = _read("/etc/hosts"), local_addresses(), _source_address()
        return cls(host or None, socket.gethostname(), hosts, local, towards, found)


def own_address(host_info: HostInfo) -> str:
    """Return the address by which other machines reach this one. It is the first of these:

    1. the configured host;
    2. the only own address among those that discovery uses;
    3. the only own address that /etc/hosts has for our host name (container engines write that line);
    4. the source address of outgoing packets, with a warning if /etc/hosts has several addresses;
    5. the only address of this machine.

    Raises NodeStartError, which lists the candidates, if none of these decides.
    """
    if host_info.host is not None:
        return host_info.host
    usable = [address for address in host_info.interface_addresses if not is_loopback(address)]
    sought = [address for address in usable if address in host_info.discovered]
    if len(sought) == 1:
        return sought[0]
    named = [address for address in _addresses_in_hosts(host_info.etc_hosts, host_info.hostname) if address in usable]
    if len(named) == 1:
        return named[0]
    candidates = named or usable
    if host_info.source_address is not None and host_info.source_address in candidates:
        if len(named) > 1:  # a container on several networks: the default route says little about the other nodes
            log.warning(
                "address_ambiguous",
                "this machine has the addresses %s; using %s, from which packets leave by default. If the other nodes "
                "are on another network, choose an address with --host or ERLMESH_HOST",
                " and ".join(named),
                host_info.source_address,
                address=host_info.source_address,
            )
        return host_info.source_address
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise NodeStartError(
            "this machine has only a loopback address, so no other machine can reach it: "
            "connect it to a network, or choose a host (127.0.0.1 is for nodes on this machine only)"
        )
    raise NodeStartError(
        f"this machine has several addresses, and it is unknown which one other machines can reach: "
        f"{', '.join(candidates)}. Choose one with --host or ERLMESH_HOST"
    )


def local_addresses() -> tuple[str, ...]:
    """Return the IPv4 addresses of all interfaces, including loopback."""
    return parse_fib_trie(_read("/proc/net/fib_trie"))


def parse_fib_trie(text: str) -> tuple[str, ...]:
    """Return the local addresses in the text of /proc/net/fib_trie, in order, without duplicates.

    This file is readable in every container, and needs no external program such as ``ip``.
    """
    found: list[str] = []
    address = ""
    for line in text.splitlines():
        words = line.split()  # an address is on a line "|-- ADDRESS"; its properties are on the lines below
        if words[:1] == ["|--"] and len(words) > 1:
            address = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"] and address not in found:
            found.append(address)
    return tuple(found)


def is_loopback(address: str) -> bool:
    """Return whether ``address``, IPv4 or IPv6, is a loopback address."""
    plain = address.partition("%")[0]  # without an IPv6 zone ("%eth0")
    if ":" in plain:
        return socket.inet_pton(socket.AF_INET6, plain) == _LOOPBACK_6
    return socket.inet_pton(socket.AF_INET, plain)[0] == 127


def address_group(peername: object) -> str:
    """Return what stands for the address ``peername`` where clients share places: an IPv6 host has a whole /64.

    ``peername`` is what a socket or a transport returns; anything else gives one group of its own.
    """
    if not isinstance(peername, tuple) or not peername:
        return str(peername)
    plain = str(peername[0]).partition("%")[0]
    if ":" not in plain:
        return plain
    try:
        packed = socket.inet_pton(socket.AF_INET6, plain)
    except OSError:
        return plain
    if packed[:12] == _MAPPED_IPV4:
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8))


def has_ipv6_loopback() -> bool:
    """Return whether this machine can listen on ::1."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def _addresses_in_hosts(text: str, hostname: str) -> Sequence[str]:
    """Return the addresses of ``hostname`` in the text of an /etc/hosts."""
    found = []
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if hostname in names and address not in found:
            found.append(address)
    return found


def _resolve(name: str) -> list[str]:
    """Return the addresses of ``name``; none if it cannot be resolved."""
    try:
        found = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: the name is not valid in IDNA
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _source_address() -> str | None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(UNROUTED_ADDRESS)
        return str(probe.getsockname()[0])
    return None


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:  # noqa: PTH123 - pathlib would be loaded at every start for this
            return file.read()
    except OSError:
        return ""
