"""The addresses of this machine, and which of them others reach it by. Linux; nothing is sent and no tool is run."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from erlmesh.errors import NodeStartError

__all__ = ["HostInfo", "has_ipv6_loopback", "is_loopback", "local_addresses", "own_address", "parse_fib_trie"]

log = logging.getLogger("erlmesh")

UNROUTED_ADDRESS: Final = ("192.0.2.1", 9)
"""An address reserved for documentation: asking for the way to it sends nothing (RFC 5737)."""


@dataclass(frozen=True, slots=True)
class HostInfo:
    """What this machine knows of itself: the evidence for :func:`own_address`."""

    host: str | None
    """What the user says (ERLMESH_HOST)."""
    hostname: str
    etc_hosts: str
    """The text of /etc/hosts."""
    interface_addresses: tuple[str, ...]
    """The IPv4 addresses of all interfaces."""
    source_address: str | None
    """The address that packets to far away would leave from."""
    discovered: tuple[str, ...] = ()
    """The addresses under which the cluster's nodes are looked for: one of them may be ours."""

    @classmethod
    def detect(cls, host: str | None = None, discovery_names: Sequence[str] = ()) -> HostInfo:
        """This machine, now. The names are looked up, which may take a while."""
        found = tuple(address for name in discovery_names for address in _resolve(name))
        hosts, local, towards = _read("/etc/hosts"), local_addresses(), _source_address()
        return cls(host or None, socket.gethostname(), hosts, local, towards, found)


def own_address(host_info: HostInfo) -> str:
    """The address that others reach this machine by. The first of: what the user says; an own address among those that
    the cluster is looked for at; the line that /etc/hosts has for the own host name (container engines write it); the
    address that packets leave from; the only one there is.

    Raises NodeStartError with the candidates if that leaves a choice; warns if /etc/hosts has several and the last but
    one decides.
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
        if len(named) > 1:  # in a container on several networks: which of them the way out leads through says little
            log.warning(
                "this machine is %s, and packets to far away leave from %s: if the other nodes are on another network, "
                "choose with --host or ERLMESH_HOST",
                " and ".join(named),
                host_info.source_address,
            )
        return host_info.source_address
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise NodeStartError(
            "this machine has no address but the loopback one, so no other can reach it: "
            "connect it to a network, or name the host (127.0.0.1 is for nodes of this machine alone)"
        )
    raise NodeStartError(
        f"this machine has several addresses, and nothing says which of them others reach it by: "
        f"{', '.join(candidates)}. Choose one with --host or ERLMESH_HOST"
    )


def local_addresses() -> tuple[str, ...]:
    """The IPv4 addresses of all interfaces, the loopback one included."""
    return parse_fib_trie(_read("/proc/net/fib_trie"))


def parse_fib_trie(text: str) -> tuple[str, ...]:
    """The addresses that the kernel's table of routes calls its own, in order, each once."""
    found: list[str] = []
    address = ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["|--"] and len(words) > 1:
            address = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"] and address not in found:
            found.append(address)
    return tuple(found)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches ``address``, an IPv4 or IPv6 one."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def has_ipv6_loopback() -> bool:
    """Whether ::1 can be listened on here."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def _addresses_in_hosts(text: str, hostname: str) -> Sequence[str]:
    found = []
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if hostname in names and address not in found:
            found.append(address)
    return found


def _resolve(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _source_address() -> str | None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(UNROUTED_ADDRESS)
        return str(probe.getsockname()[0])
    return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
