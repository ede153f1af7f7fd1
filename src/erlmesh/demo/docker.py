"""Docker Engine by its own command: containers and a network of ours alone, found again by their label."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from erlmesh.demo.shells import DemoFailed, ShellProcess

__all__ = ["IMAGE", "ContainerShell", "Engine"]

IMAGE: Final = "localhost/erlmesh:dev"
COMMAND_TIMEOUT: Final = 60.0
"""Seconds a command of the engine may take."""
CLEANUP_TIMEOUT: Final = 20.0
"""Seconds until what cannot be removed is left."""
_SUBNETS: Final = tuple(f"172.31.{third}" for third in range(240, 256))
_COOKIE: Final = "/run/secrets/cookie"


class Engine:
    """``token`` is in the name and on the label of everything it makes; :meth:`close` removes all of that."""

    def __init__(self, token: str, cookie_file: Path) -> None:
        program = shutil.which("docker")
        if program is None:
            raise DemoFailed("there is no docker here")
        self._program = program
        self._token = token
        self._label = f"erlmesh.demo={token}"
        self._cookie_file = cookie_file
        self._subnet = ""
        self.run("version", "--format", "{{.Server.Version}}")

    def run(self, *arguments: str, timeout: float = COMMAND_TIMEOUT) -> str:
        """``docker ARGUMENTS``: what it prints. Raises Failed with what it complains of."""
        try:
            done = subprocess.run(  # noqa: S603 - the docker that was found
                [self._program, *arguments], capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"docker {arguments[0]} takes longer than {timeout:g} s") from None
        if done.returncode:
            raise DemoFailed(f"docker {' '.join(arguments[:2])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    def has_image(self, image: str) -> bool:
        """Whether it is here and need not be pulled."""
        return bool(self.run("images", "--quiet", image))

    def make_network(self) -> None:
        """One that leads nowhere, at addresses that no other network of this machine has."""
        why = ""
        for subnet in _SUBNETS:
            try:
                self.run(
                    "network", "create", "--internal", "--label", self._label, "--subnet", f"{subnet}.0/24",
                    self.network,
                )  # fmt: skip
            except DemoFailed as failure:
                why = str(failure)
            else:
                self._subnet = subnet
                return
        raise DemoFailed(f"no network could be made: {why}")

    @property
    def network(self) -> str:
        return f"erlmesh-demo-{self._token}"

    def container(self, name: str) -> str:
        """The engine's name for the container of the node ``name``."""
        return f"{self.network}-{name}"

    def address(self, number: int) -> str:
        """The address of the node ``number``, counted from 1."""
        return f"{self._subnet}.{number + 1}"

    def shell_command(self, image: str, name: str, number: int, *options: str) -> list[str]:
        """The command that starts a node in a container, with its shell at this command's standard input."""
        return [
            self._program, "run", "--interactive", "--name", self.container(name), "--hostname", name,
            "--label", self._label, "--network", self.network, "--ip", self.address(number),
            "--volume", f"{self._cookie_file}:{_COOKIE}:ro", "--env", f"ERLMESH_COOKIE_FILE={_COOKIE}",
            *options, image, "shell",
        ]  # fmt: skip

    def restart_command(self, name: str) -> list[str]:
        """The command that starts the container of ``name`` again."""
        return [self._program, "start", "--attach", "--interactive", self.container(name)]

    def remsh_command(self, name: str) -> list[str]:
        """The command that opens a second shell in the container of ``name``, on the node that runs there."""
        return [self._program, "exec", "--interactive", self.container(name), "erlmesh", "shell", "--remsh"]

    def close(self) -> None:
        """Removes what was made, and what is still being made; may be called again."""
        label, deadline = f"label={self._label}", time.monotonic() + CLEANUP_TIMEOUT
        while time.monotonic() < deadline:
            with contextlib.suppress(DemoFailed):
                containers = self.run("ps", "--all", "--quiet", "--filter", label).split()
                if containers:
                    self.run("rm", "--force", "--volumes", *containers)
                networks = self.run("network", "ls", "--quiet", "--filter", label).split()
                if networks:
                    self.run("network", "rm", *networks)
                if not containers and not networks:
                    return
            time.sleep(0.2)


class ContainerShell(ShellProcess):
    """The shell of the node ``name``, behind a command of :class:`Engine`."""

    sentinel_line = "print('-- erlmesh demo mark --')"

    def __init__(self, name: str, command: list[str]) -> None:
        super().__init__(name, f"py({name}){{}}> ", command, {})
