"""Run the ``docker`` command: containers and a network for one demo, marked with a label."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from erlmesh.demo.map_page import find_address
from erlmesh.demo.shells import SENTINEL, DemoFailed, ShellProcess

__all__ = ["IMAGE", "ContainerShell", "Engine"]

IMAGE: Final = "localhost/erlmesh:dev"
COMMAND_TIMEOUT: Final = 60.0
"""Seconds that a docker command may take."""
CLEANUP_TIMEOUT: Final = 20.0
"""Seconds for the cleanup. After that, remaining containers and networks stay."""
CLEANUP_INTERVAL: Final = 0.2
"""Seconds between two attempts of the cleanup."""
MAP_PORT: Final = 4380
MAP_NUMBER: Final = 100
"""The number of the map's container. Docker would give it an address of a node that starts later."""
_SUBNETS: Final = tuple(f"172.31.{third}" for third in range(240, 256))
_COOKIE: Final = "/run/secrets/cookie"


class Engine:
    """The Docker Engine. ``token`` is in the name and label of everything it creates; :meth:`close` removes that.

    Raises DemoFailed if docker is not installed or its engine does not run.
    """

    def __init__(self, token: str, cookie_file: Path) -> None:
        program = shutil.which("docker")
        if program is None:
            raise DemoFailed("docker is not installed")
        self._program = program
        self._token = token
        self._label = f"erlmesh.demo={token}"
        self._cookie_file = cookie_file
        self._subnet = ""
        self.run("version", "--format", "{{.Server.Version}}")

    def run(self, *arguments: str, timeout: float = COMMAND_TIMEOUT) -> str:
        """Run ``docker ARGUMENTS`` and return its output. Raises DemoFailed with its error text."""
        try:
            done = subprocess.run(  # noqa: S603 - the docker that was found
                [self._program, *arguments], capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"docker {arguments[0]} took longer than {timeout:g} s") from None
        if done.returncode:
            raise DemoFailed(f"docker {' '.join(arguments[:2])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    def has_image(self, image: str) -> bool:
        """Return true if the engine has the image and need not pull it."""
        return bool(self.run("images", "--quiet", image))

    def make_network(self) -> None:
        """Create a network without a route to the outside, in a subnet that no other network of the machine uses."""
        reason = ""
        for subnet in _SUBNETS:
            try:
                self.run(
                    "network", "create", "--internal", "--label", self._label, "--subnet", f"{subnet}.0/24",
                    self.network,
                )  # fmt: skip
            except DemoFailed as failure:
                reason = str(failure)
            else:
                self._subnet = subnet
                return
        raise DemoFailed(f"cannot create a network: {reason}")

    @property
    def label(self) -> str:
        """The label of everything that :meth:`close` removes."""
        return self._label

    @property
    def network(self) -> str:
        return f"erlmesh-demo-{self._token}"

    def container(self, name: str) -> str:
        """Return the name of the container of the node ``name``."""
        return f"{self.network}-{name}"

    def address(self, number: int) -> str:
        """Return the address of the node with this number, counted from 1."""
        return f"{self._subnet}.{number + 1}"

    def shell_command(self, image: str, name: str, number: int, *options: str) -> list[str]:
        """Return the command that starts a node in a container. Its shell reads the command's standard input."""
        return [
            self._program, "run", "--interactive", "--name", self.container(name), "--hostname", name,
            "--label", self._label, "--network", self.network, "--ip", self.address(number),
            "--volume", f"{self._cookie_file}:{_COOKIE}:ro", "--env", f"ERLMESH_COOKIE_FILE={_COOKIE}",
            "--env", "ERLMESH_ALLOW_REMSH=on",
            *options, image, "shell",
        ]  # fmt: skip

    def start_map(self, image: str, addresses: Sequence[str], *options: str) -> str:
        """Start ``erlmesh map`` of the nodes ``addresses`` in a container. Returns the address of its page.

        ``options`` are those of ``docker create``.

        The network of the demo has no route to the outside. So the container is in the engine's own network too, and
        its port is published on 127.0.0.1.
        """
        name = self.container("map")
        self.run(
            "create", "--name", name, "--hostname", "map", "--label", self._label,
            "--publish", f"127.0.0.1::{MAP_PORT}", "--volume", f"{self._cookie_file}:{_COOKIE}:ro",
            "--env", f"ERLMESH_COOKIE_FILE={_COOKIE}", *options,
            image, "map", "--listen", f"0.0.0.0:{MAP_PORT}", *addresses,
        )  # fmt: skip
        self.run("network", "connect", "--ip", self.address(MAP_NUMBER), self.network, name)
        self.run("start", name)
        printed = find_address(
            lambda: self.run("logs", name),
            lambda: self.run("inspect", "--format", "{{.State.Running}}", name) == "true",
        )
        published = self.run("port", name, str(MAP_PORT)).partition("\n")[0]
        return re.sub(r"//[^/]+/", f"//{published}/", printed)

    def restart_command(self, name: str) -> list[str]:
        """Return the command that starts the container of ``name`` again."""
        return [self._program, "start", "--attach", "--interactive", self.container(name)]

    def remsh_command(self, name: str) -> list[str]:
        """Return the command that opens a second shell in the container of ``name``, on the node that runs there."""
        return [self._program, "exec", "--interactive", self.container(name), "erlmesh", "shell", "--remsh"]

    def close(self) -> None:
        """Remove all containers and networks of this engine. May be called again.

        A container can still be starting, and the engine can refuse for a moment. So this repeats until nothing is
        left. Raises DemoFailed with the reason if something is left after ``CLEANUP_TIMEOUT``.
        """
        deadline = time.monotonic() + CLEANUP_TIMEOUT
        while reasons := [
            *self._remove(("ps", "--all"), ("rm", "--force", "--volumes")),
            *self._remove(("network", "ls"), ("network", "rm")),
        ]:
            if time.monotonic() > deadline:
                raise DemoFailed(f"not everything with the label {self._label} is removed: {'; '.join(reasons)}")
            time.sleep(CLEANUP_INTERVAL)

    def _remove(self, listing: tuple[str, ...], removal: tuple[str, ...]) -> list[str]:
        """Remove everything with our label that ``listing`` shows. Return why something may be left."""
        try:
            found = self.run(*listing, "--quiet", "--filter", f"label={self._label}").split()
            if not found:
                return []
            self.run(*removal, *found)
        except DemoFailed as failure:
            return [str(failure)]
        return [f"docker {listing[0]} showed {', '.join(found)}"]


class ContainerShell(ShellProcess):
    """The shell of the node ``name``, started by a command of :class:`Engine`."""

    sentinel_line = f"print({SENTINEL!r})"

    def __init__(self, name: str, command: list[str]) -> None:
        super().__init__(name, f"py({name}){{}}> ", command, {})
