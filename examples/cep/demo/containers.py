"""The demo in containers: ``make cep-demo ARGS=--docker``. Each node has a container, and they share a network.

Signals are ``docker kill``, ``docker pause`` and ``docker unpause``. A cut is ``docker network disconnect`` of
aristotle. At the end all containers and the network are removed.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from pathlib import Path
from typing import Final

from cep.demo.mesh import EXAMPLES, OWNERS, SOURCES, Observer, Program, Sides, app_of
from erlmesh.demo.docker import Engine
from erlmesh.demo.shells import DemoFailed

__all__ = ["ContainerMesh"]

NAMES: Final = (*OWNERS, *SOURCES, "agora")
COOKIE: Final = "/run/secrets/cookie"
COMMANDS: Final = {signal.SIGKILL: "kill", signal.SIGSTOP: "pause", signal.SIGCONT: "unpause"}
START_TIMEOUT: Final = 60.0
CUT_OFF: Final = "aristotle"


class ContainerMesh:
    """All nodes in containers. It has the methods of LocalMesh."""

    sides: Sides = (tuple(name for name in NAMES if name != CUT_OFF), (CUT_OFF,))
    full_rate = 20
    command_time = 5.0
    """Seconds that a docker command may take before it has an effect."""
    why_no_elixir = "it needs the ports of the host; play it without --docker"

    def __init__(self, folder: Path, net_ticktime: float, image: str) -> None:
        """Raises DemoFailed if docker is not installed or its engine does not run, or if it does not have the image."""
        self._folder = folder
        self._net_ticktime = net_ticktime
        self._image = image
        self._programs: dict[str, Program] = {}
        self._old: list[Program] = []
        cookie = folder / "cookie"
        cookie.write_text(secrets.token_hex(10))
        cookie.chmod(0o444)  # The container runs as another user; only our user can enter the folder.
        self._cookie = cookie
        self.engine = Engine(secrets.token_hex(3), cookie)
        if not self.engine.has_image(image):
            raise DemoFailed(f"docker has no image {image}: build it with `make image`, or name one with --image")

    def start(self) -> Observer:
        """Start all containers. Return when they run."""
        self.engine.make_network()
        self.start_node("agora")
        observer = Observer(self._programs["agora"])
        observer.ask("ready", timeout=START_TIMEOUT)
        for name in (*OWNERS, *SOURCES):
            self.start_node(name)
        return observer

    def start_node(self, name: str) -> None:
        """Start a node in a new container."""
        if (old := self._programs.get(name)) is not None:
            self._old.append(old)
            self.engine.run("rm", "--force", self.engine.container(name))
        address = self._address(name)
        options = [
            "--name", self.engine.container(name), "--hostname", name, "--label", self.engine.label,
            "--network", self.engine.network, "--ip", address,
            "--volume", f"{self._cookie}:{COOKIE}:ro", "--volume", f"{EXAMPLES}:/examples:ro",
            "--workdir", "/examples", "--env", "PYTHONPATH=/examples", "--env", f"CEP_PART={SOURCES.get(name, '')}",
            "--env", "CEP_UNTIL_STDIN_ENDS=yes",
        ]  # fmt: skip
        node = [
            "start", "--verbose", "--name", f"{name}@{address}", "--cookie-file", COOKIE,
            "--net-ticktime", f"{self._net_ticktime:g}", "--app", app_of(name),
        ]  # fmt: skip
        if name != "agora":
            node += ["--join", f"agora@{self._address('agora')}"]
        command = ["docker", "run", "--interactive", *options, self._image, *node]
        self._programs[name] = Program(name, command, {}, self._folder / f"{name}.log")

    def signal(self, name: str, number: signal.Signals) -> None:
        self.check()
        if number is signal.SIGKILL:
            self._programs[name].may_end = True
        self.engine.run(COMMANDS[number], self.engine.container(name))

    def check(self) -> None:
        """Raises DemoFailed if a container has ended by itself."""
        for program in self._programs.values():
            program.check()

    def cut(self) -> None:
        self.engine.run("network", "disconnect", self.engine.network, self.engine.container(CUT_OFF))

    def heal(self) -> None:
        address = self._address(CUT_OFF)
        self.engine.run("network", "connect", "--ip", address, self.engine.network, self.engine.container(CUT_OFF))

    def stop_in_order(self, name: str, timeout: float) -> int:
        """``docker stop``, and return the exit code."""
        self._programs[name].may_end = True
        started = time.monotonic()
        self.engine.run("stop", "--time", f"{timeout:.0f}", self.engine.container(name), timeout=timeout + 30)
        return self._programs[name].wait(max(1.0, timeout - (time.monotonic() - started)) + self.command_time)

    def run_elixir(self) -> list[str] | None:
        """The Elixir node of the scene runs on this machine, so the scene belongs to the local demo."""
        return None

    def close(self) -> None:
        """Remove all containers and the network. May be called again. Raises DemoFailed if some are left."""
        with contextlib.ExitStack() as cleanup:  # it runs all steps, also after one that fails; the last one first
            for program in [*self._programs.values(), *self._old]:
                cleanup.callback(program.close)
            cleanup.callback(self.engine.close)

    def logs(self) -> list[Path]:
        return sorted(self._folder.glob("*.log"))

    def _address(self, name: str) -> str:
        return self.engine.address(1 + NAMES.index(name))
