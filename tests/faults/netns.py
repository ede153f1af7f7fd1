"""Machines on one Linux: network namespaces, each with one port on a switch that can be cut in every way.

The switch is a namespace of its own, so that nothing of this is seen in the machine's own network, and all of it is
gone with the namespaces. Cables are pairs of veth; a group of machines that see each other is a bridge. A cut is
silent: carriers stay, nobody is told.
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
    """This machine cannot have namespaces; the message says why."""


def unsupported_reason() -> str | None:
    """Why there can be no namespaces here, or None."""
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
    """Runs commands of ``ip``, all in one process."""
    for namespace, group in itertools.groupby(commands, key=lambda command: command.partition("|")[0]):
        batch = "\n".join(command.partition("|")[2] for command in group)
        where = ["-netns", namespace] if namespace else []
        done = subprocess.run(
            ["ip", *where, "-batch", "-"], input=batch, capture_output=True, text=True, check=False
        )  # fmt: skip
        if done.returncode:
            raise NotSupported(f"ip cannot do it ({batch!r}): {done.stderr.strip()}")


class NetworkNamespace:
    """One namespace: ``eth0`` with an address on the switch, and a loopback of its own."""

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
        """Gives it its interface, and the other end of the cable to the switch."""
        ip(
            f"{self._switch}|link add {self.port} type veth peer name eth0 address {self.mac} netns {self.namespace}",
            f"{self.namespace}|address add {self.address}/24 dev eth0",
            f"{self.namespace}|link set eth0 up",
            f"{self._switch}|link set {self.port} master {bridge} up",
        )

    def detach(self) -> None:
        """Takes the whole interface away, with its address and its routes."""
        ip(f"{self.namespace}|link delete eth0")

    def block_to(self, other: NetworkNamespace) -> None:
        """What it sends to ``other`` goes nowhere; what comes from there arrives."""
        ip(f"{self.namespace}|neigh replace {other.address} lladdr {BLACKHOLE_MAC} dev eth0 nud permanent")

    def unblock_to(self, other: NetworkNamespace) -> None:
        ip(f"{self.namespace}|neigh replace {other.address} lladdr {other.mac} dev eth0 nud reachable")


class Switch:
    """``size`` machines, all of which see each other until they are cut."""

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
        """Only machines of the same group see each other; every group has a bridge of its own."""
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
        """All see each other again, whatever was cut."""
        self.partition(range(len(self.hosts)))

    def detach_all(self) -> None:
        """Nothing is carried any more, unless somebody does it by hand."""
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
        """For a command that shall run in the switch itself."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--"]

    def close(self) -> None:
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)
        self._namespaces.clear()
