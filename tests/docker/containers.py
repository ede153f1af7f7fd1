"""Containers for tests: with the engine's own command and with compose."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path

from erlmesh.demo.docker import ContainerShell, Engine
from erlmesh.demo.shells import DemoFailed
from otp.polling import wait_until

ROOT = Path(__file__).parent.parent.parent


def engine_version() -> str:
    """The version of the engine. Raises DemoFailed if none answers."""
    docker = shutil.which("docker")
    if docker is None:
        raise DemoFailed("docker is not installed")
    command = [docker, "version", "--format", "{{.Server.Version}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise DemoFailed("no Docker Engine answers")
    return done.stdout.strip()


def compose_command() -> list[str] | None:
    """The command of Compose, either as a plugin or as a program. None if neither is installed."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


class Lab(Engine):
    """An engine with a network and a cookie, and containers that run the image in the background."""

    def __init__(self, image: str, folder: Path) -> None:
        cookie = folder / "cookie"
        cookie.write_text(secrets.token_hex(10))
        cookie.chmod(0o444)
        super().__init__(secrets.token_hex(3), cookie)
        self.image = image
        self.folder = folder
        self.make_network()
        self._shells: list[ContainerShell] = []

    def node(
        self,
        name: str,
        *options: str,
        command: tuple[str, ...] = (),
        network: str = "",
        cookie: str | None = "",
        remsh: bool = True,
    ) -> str:
        """The name of a new container, which has the node ``name`` in it. ``options`` are those of docker run.

        ``cookie`` is the file with the secret, else that of all; None: it has no secret. The node lets tests open
        shells, unless ``remsh`` is false: then it runs as the image says.
        """
        container = self.container(name)
        secret = () if cookie is None else ("--volume", f"{cookie or self._cookie_file}:/run/secrets/cookie:ro")
        self.run(
            "run", "--detach", "--name", container, "--hostname", name, "--label", self._label,
            "--network", network or self.network, *secret, *(("--env", "ERLMESH_ALLOW_REMSH=on") if remsh else ()),
            *options, self.image, *command,
        )  # fmt: skip
        return container

    def wait_up(self, container: str) -> None:
        wait_until(lambda: " is up: " in self.logs(container), what="up", details=lambda: self.logs(container))

    def wait_exit(self, container: str) -> int:
        """Its exit code."""
        return int(self.run("wait", container))

    def stop_duration(self, container: str) -> float:
        """Seconds from the signal of ``docker stop`` until its first process has ended, by the engine's own clock."""
        self.run("stop", container)
        events = (
            "events",
            "--since",
            "10m",
            "--until",
            str(int(time.time()) + 1),
            "--filter",
            f"container={container}",
        )
        told = self.run(*events, "--format", "{{.Action}} {{.TimeNano}}").split("\n")
        at = {action: int(moment) for action, _, moment in (line.rpartition(" ") for line in told)}
        return (at["die"] - at["kill"]) / 1e9

    def logs(self, container: str) -> str:
        done = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def inspect(self, thing: str, template: str) -> str:
        return self.run("inspect", "--format", "{{" + template + "}}", thing)

    def shell(self, name: str) -> ContainerShell:
        """A second shell on the node that runs in the container of ``name``, once it does."""
        wait_until(lambda: self.is_healthy(name), what=f"{name} is healthy")
        shell = ContainerShell(name, self.remsh_command(name))
        self._shells.append(shell)
        shell.wait_up()
        return shell

    def is_healthy(self, name: str) -> bool:
        """True if ``erlmesh health`` in the container succeeds."""
        command = ["docker", "exec", self.container(name), "erlmesh", "health"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def close(self) -> None:
        super().close()
        for shell in self._shells:
            shell.close()


class Compose:
    """A Compose project."""

    def __init__(
        self, command: list[str], project: str, *, files: tuple[str, ...] = ("compose.yaml",), **environment: str
    ) -> None:
        self.project = project
        self._files = [argument for file in files for argument in ("--file", str(ROOT / file))]
        self._environment = {**os.environ, **environment, "NET_TICKTIME": "8"}
        self._command = command
        self._shells: dict[str, ContainerShell] = {}

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, "--project-name", self.project, "--project-directory", str(ROOT), "--profile", "elixir",
             *self._files, *arguments],
            capture_output=True, text=True, check=False, env=self._environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def container(self, service: str) -> str:
        return self.run("ps", "-q", service)

    def ask(self, service: str, line: str) -> str:
        """Type a line into a remote shell on the running node. Return the answer."""
        if service not in self._shells:
            command = ["docker", "exec", "--interactive", self.container(service), "erlmesh", "shell", "--remsh"]
            self._shells[service] = ContainerShell(service, command)
        return self._shells[service].ask(line)

    def close(self) -> None:
        for shell in self._shells.values():
            shell.close()
        self.run("down", "--timeout", "2", "--volumes")
