"""Hosts as Linux network namespaces, each with one port on a switch that can be partitioned in any way.

The switch is a namespace of its own. So the machine's own network does not change, and everything is removed with the
namespaces. Cables are pairs of veth. Hosts that reach each other are on one bridge. A partition is silent: carriers
stay up, and no host gets a reset.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence

__all__ = ["NetworkNamespace", "NotSupported", "Switch", "unsupported_reason"]

BLACKHOLE_MAC = "02:00:00:00:00:ff"
_numbers = itertools.count()


class NotSupported(Exception):
    """This machine cannot have network namespaces. The message is the reason."""


def unsupported_reason() -> str | None:
    """The reason why this machine cannot have network namespaces, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "nsenter", "prlimit"):
        if shutil.which(tool) is None:
            return f"{tool} is missing (packages iproute2 and util-linux)"
    try:
        Switch(0).close()
    except NotSupported as why:
        return str(why)
    return None


def ip(*commands: str) -> None:
    """Run commands of ``ip``, each as ``NAMESPACE|COMMAND``. Commands of one namespace run in one process."""
    for namespace, group in itertools.groupby(commands, key=lambda command: command.partition("|")[0]):
        batch = "\n".join(command.partition("|")[2] for command in group)
        where = ["-netns", namespace] if namespace else []
        done = subprocess.run(
            ["ip", *where, "-batch", "-"], input=batch, capture_output=True, text=True, check=False
        )  # fmt: skip
        if done.returncode:
            raise NotSupported(f"the ip command failed ({batch!r}): {done.stderr.strip()}")


class NetworkNamespace:
    """One host: a namespace with a loopback, and ``eth0`` with an address on the switch."""

    def __init__(self, switch: str, number: int) -> None:
        self.number = number
        self.namespace = f"{switch}m{number}"
        self.address = f"10.77.0.{number + 1}"
        self.mac = f"02:00:00:00:00:{number + 1:02x}"
        self.port = f"p{number}"
        self.exec_prefix = ["nsenter", f"--net=/run/netns/{self.namespace}", "--"]
        self._switch = switch
        ip(f"|netns add {self.namespace}", f"{self.namespace}|link set lo up")
        self.attach()

    def attach(self, bridge: str = "br0") -> None:
        """Create the interface, with the other end of the cable on the switch."""
        ip(
            f"{self._switch}|link add {self.port} type veth peer name eth0 address {self.mac} netns {self.namespace}",
            f"{self.namespace}|address add {self.address}/24 dev eth0",
            f"{self.namespace}|link set eth0 up",
            f"{self._switch}|link set {self.port} master {bridge} up",
        )

    def detach(self) -> None:
        """Delete the interface, with its address and its routes."""
        ip(f"{self.namespace}|link delete eth0")

    def block_to(self, other: NetworkNamespace) -> None:
        """Drop all frames from this host to ``other``. The other direction is not changed."""
        ip(f"{self.namespace}|neigh replace {other.address} lladdr {BLACKHOLE_MAC} dev eth0 nud permanent")

    def unblock_to(self, other: NetworkNamespace) -> None:
        ip(f"{self.namespace}|neigh replace {other.address} lladdr {other.mac} dev eth0 nud reachable")


class Switch:
    """``size`` hosts. All reach each other until they are partitioned."""

    def __init__(self, size: int) -> None:
        self.namespace = f"em{os.getpid()}x{next(_numbers)}"
        self.hosts: list[NetworkNamespace] = []
        self._namespaces: list[str] = []
        try:
            ip(f"|netns add {self.namespace}")
            self._namespaces.append(self.namespace)
            ip(f"{self.namespace}|link set lo up", *self._bridge(0))
            for number in range(size):
                self._namespaces.append(f"{self.namespace}m{number}")
                self.hosts.append(NetworkNamespace(self.namespace, number))
        except BaseException:
            self.close()
            raise
        self._bridges = 1

    def _bridge(self, number: int) -> list[str]:
        return [f"{self.namespace}|link add br{number} type bridge", f"{self.namespace}|link set br{number} up"]

    def partition(self, *groups: Iterable[int]) -> None:
        """Only hosts of the same group reach each other. Every group has a bridge of its own."""
        while self._bridges < len(groups):
            ip(*self._bridge(self._bridges))
            self._bridges += 1
        ip(
            *(
                f"{self.namespace}|link set p{number} master br{bridge}"
                for bridge, group in enumerate(groups)
                for number in group
            )
        )

    def heal(self) -> None:
        """End every partition made with :meth:`partition`."""
        self.partition(range(len(self.hosts)))

    def detach_all(self) -> None:
        """Take all ports off the bridges. Then only the network emulator forwards frames."""
        ip(*(f"{self.namespace}|link set {machine.port} nomaster" for machine in self.hosts))

    def cut_one_way(self, one: int, other: int) -> None:
        self.hosts[one].block_to(self.hosts[other])

    def cut_pair(self, one: int, other: int) -> None:
        self.cut_one_way(one, other)
        self.cut_one_way(other, one)

    def heal_pair(self, one: int, other: int) -> None:
        self.hosts[one].unblock_to(self.hosts[other])
        self.hosts[other].unblock_to(self.hosts[one])

    @property
    def exec_prefix(self) -> Sequence[str]:
        """The start of a command that runs in the namespace of the switch."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--"]

    def close(self) -> None:
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)
        self._namespaces.clear()
