"""The settings of gossip: ``gossip:multicast``, ``gossip:broadcast`` or ``gossip:ADDRESS``, with options."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from erlmesh.errors import NodeStartError
from erlmesh.records import field, record

__all__ = ["GossipSettings", "parse_gossip"]

PORT: Final = 45892
MULTICAST: Final = "233.252.1.32"
BROADCAST: Final = "255.255.255.255"
"""The defaults of libcluster."""
MAX_OPEN_NODES: Final = 256
"""Nodes that are dialled of those that gossip without a secret has brought.

Each name that does not answer is dialled again with a growing delay, at a host that the sender of the datagram chooses.
So this bounds what one sender makes a node do. A full mesh is seldom larger."""
MAX_SECRET_NODES: Final = 1_000
"""The same with a secret: as many as are kept of what was heard."""
SECRET_VARIABLE: Final = "ERLMESH_GOSSIP_SECRET"  # noqa: S105 - the name of a variable
FORM: Final = (
    "write gossip:multicast, gossip:broadcast or gossip:ADDRESS, "
    "and after commas port=N, interface=ADDRESS, ttl=N, secret-file=PATH"
)


@record(frozen=True)
class GossipSettings:
    """Where heartbeats go. All nodes of a cluster have the same address, port and secret."""

    address: str = MULTICAST
    port: int = PORT
    interface: str | None = None
    """The own address whose network is used. None is the network of the default route."""
    ttl: int = 1
    """How many routers a multicast passes, and one."""
    secret: bytes | None = field(default=None, repr=False)

    @property
    def max_nodes(self) -> int:
        """How many nodes are dialled. Anybody on the network can send names of a gossip without a secret."""
        return MAX_OPEN_NODES if self.secret is None else MAX_SECRET_NODES

    @property
    def is_multicast(self) -> bool:
        """False for a broadcast, or for the address of one node."""
        return ipaddress.IPv4Address(self.address).is_multicast


def parse_gossip(value: str, environment: Mapping[str, str] = os.environ) -> GossipSettings:
    """The settings in the value of a source. The secret is in a file or in ``ERLMESH_GOSSIP_SECRET``, and is not part
    of a command line, which other users of the machine see. Raises NodeStartError.
    """
    target, *options = value.split(",")
    address = {"multicast": MULTICAST, "broadcast": BROADCAST}.get(target, target)
    given = dict(option.partition("=")[::2] for option in options)
    unknown = sorted(given.keys() - {"port", "interface", "ttl", "secret-file"})
    if unknown or len(given) < len(options):
        raise _wrong(value, f"{', '.join(unknown) or 'an option'} is unknown or given twice")
    for name in ("address", "interface"):
        text = address if name == "address" else given.get(name, "0.0.0.0")  # noqa: S104 - it is not bound
        try:
            ipaddress.IPv4Address(text)
        except ValueError:
            raise _wrong(value, f"{text!r} is not an IPv4 address") from None
    return GossipSettings(
        address,
        _number(value, given.get("port", str(PORT)), 65535),
        given.get("interface"),
        _number(value, given.get("ttl", "1"), 255),
        _secret(given.get("secret-file"), environment),
    )


def _number(value: str, text: str, maximum: int) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= maximum:
        raise _wrong(value, f"{text!r} is not a number from 1 to {maximum}")
    return int(text)


def _secret(path: str | None, environment: Mapping[str, str]) -> bytes | None:
    if path is None:
        return environment[SECRET_VARIABLE].encode() if environment.get(SECRET_VARIABLE) else None
    try:
        secret = Path(path).read_bytes().rstrip(b"\r\n")
    except OSError as fault:
        raise NodeStartError(f"the file with the secret of gossip cannot be read: {fault}") from None
    if not secret:
        raise NodeStartError(f"the file {path} with the secret of gossip is empty")
    return secret


def _wrong(value: str, reason: str) -> NodeStartError:
    return NodeStartError(f"gossip:{value}: {reason}: {FORM}")
