"""Containers for tests: with the engine's own command and with compose."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from erlmesh.demo.docker import ContainerShell, Engine
from erlmesh.demo.shells import DemoFailed
from otp.polling import wait_until
from skips import skip_or_fail

ROOT = Path(__file__).parent.parent.parent
SWARM_ADDRESS = "127.83.87.77"
"""The address of a swarm of the tests."""
SWARM_LOCK = Path(tempfile.gettempdir()) / "erlmesh-swarm.lock"
STACK_LABEL = "com.docker.stack.namespace"
"""The label that the engine gives the containers of a stack."""
GATEWAY_NETWORK = "docker_gwbridge"
"""A network that a swarm leaves behind."""


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
        super().__init__(secrets.token_hex(3), cookie_in(folder))
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

    def elixir_node(self, name: str, image: str, *options: str, command: tuple[str, ...] = ()) -> str:
        """The name of a new container with an Elixir node. ``command`` are arguments of iex."""
        container = self.container(name)
        self.run(
            "run", "--detach", "--interactive", "--tty", "--name", container, "--hostname", name,
            "--label", self._label, "--network", self.network,
            "--volume", f"{self._cookie_file}:/run/secrets/cookie:ro", *options, image, *command,
        )  # fmt: skip
        return container

    def make_other_network(self) -> str:
        """The name of a second network, without a route to the outside."""
        name = f"{self.network}-other"
        self.run("network", "create", "--internal", "--label", self._label, name)
        return name

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
        wait_until(lambda: is_healthy(self.container(name)), what=f"{name} is healthy")
        shell = ContainerShell(name, self.remsh_command(name))
        self._shells.append(shell)
        shell.wait_up()
        return shell

    def close(self) -> None:
        with contextlib.ExitStack() as cleanup:  # it runs all steps, also after one that fails; the last one first
            for shell in self._shells:
                cleanup.callback(shell.close)
            cleanup.callback(super().close)


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
            container = self.container(service)
            wait_until(lambda: is_healthy(container), what=f"{service} is healthy")
            command = ["docker", "exec", "--interactive", container, "erlmesh", "shell", "--remsh"]
            self._shells[service] = ContainerShell(service, command)
        return self._shells[service].ask(line)

    def close(self) -> None:
        with contextlib.ExitStack() as cleanup:  # it runs all steps, also after one that fails; the last one first
            cleanup.callback(repeat, lambda: self.run("down", "--timeout", "2", "--volumes"))
            for shell in self._shells.values():
                cleanup.callback(shell.close)


class Swarm(Engine):
    """A swarm of this machine alone, with the secret ``erlmesh_cookie``. The machine leaves it in :meth:`close`.

    Only one swarm of the tests of all working copies runs at a time. A swarm that a killed run has left behind ends
    first. Skips the test on a machine that is in another swarm.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(secrets.token_hex(3), cookie_in(folder))
        if os.environ.get("CI") != "true":
            skip_or_fail("this would make a swarm of this machine: CI=true does")
        with contextlib.ExitStack() as cleanup:
            self._lock = cleanup.enter_context(SWARM_LOCK.open("w"))
            fcntl.flock(self._lock, fcntl.LOCK_EX)  # the kernel gives it up when this process ends in any way
            leave_left_swarm(self)
            if swarm_state(self) != "inactive":
                skip_or_fail("this machine is in a swarm already")
            cleanup.callback(end_swarm, self)
            self.run("swarm", "init", "--advertise-addr", SWARM_ADDRESS)
            self.add_secret("erlmesh_cookie", self._cookie_file)
            self._cleanup = cleanup.pop_all()

    def add_secret(self, name: str, file: Path) -> None:
        self.run("secret", "create", name, str(file))

    def deploy(self, file: str, stack: str, image: str) -> None:
        """``docker stack deploy`` of a file in ``deploy/``."""
        subprocess.run(
            ["docker", "stack", "deploy", "--compose-file", str(ROOT / "deploy" / file), stack],
            env={**os.environ, "IMAGE": image}, check=True, capture_output=True,
        )  # fmt: skip

    def running_tasks(self, stack: str) -> list[str]:
        """The containers of the tasks that run, in the order of their names."""
        label = f"label={STACK_LABEL}={stack}"
        listed = self.run("ps", "--filter", label, "--format", "{{.Names}} {{.ID}}").split("\n")
        return [line.split()[1] for line in sorted(filter(None, listed))]

    def forget(self) -> None:
        """Leave the swarm as it is and give up the lock, as a run does that is killed."""
        self._cleanup.pop_all()
        self._lock.close()

    def close(self) -> None:
        self._cleanup.close()


def swarm_state(engine: Engine) -> str:
    """``active`` in a swarm, ``inactive`` in none."""
    return engine.run("info", "--format", "{{.Swarm.LocalNodeState}}")


def leave_left_swarm(engine: Engine) -> None:
    """End a swarm that a killed run of the tests has left behind. Its address tells whose it is."""
    if engine.run("info", "--format", "{{.Swarm.NodeAddr}}") == SWARM_ADDRESS:
        end_swarm(engine)


def end_swarm(engine: Engine) -> None:
    """Remove all stacks, leave the swarm, and remove what it leaves behind. A step that fails keeps no other from
    running.
    """

    def task_containers() -> list[str]:
        return engine.run("ps", "--all", "--quiet", "--filter", f"label={STACK_LABEL}").split()

    def leave() -> None:
        if swarm_state(engine) != "inactive":
            engine.run("swarm", "leave", "--force")

    def remove_containers() -> None:
        if left := task_containers():
            engine.run("rm", "--force", *left)

    def remove_gateways() -> None:
        if GATEWAY_NETWORK not in engine.run("network", "ls", "--format", "{{.Name}}").split():
            return
        template = "{{range .Containers}}{{.Name}} {{end}}"
        for endpoint in engine.run("network", "inspect", "--format", template, GATEWAY_NETWORK).split():
            # The engine leaves the endpoint of a task that was being created, or of its own load balancer.
            engine.run("network", "disconnect", "--force", GATEWAY_NETWORK, endpoint)
        engine.run("network", "rm", GATEWAY_NETWORK)

    with contextlib.ExitStack() as cleanup:  # it runs all steps, also after one that fails; the last one first
        cleanup.callback(repeat, remove_gateways)
        cleanup.callback(repeat, remove_containers)
        cleanup.callback(repeat, leave)
        if swarm_state(engine) == "active" and (stacks := engine.run("stack", "ls", "--format", "{{.Name}}").split()):
            # It fails while a network is in use by a task that ends.
            repeat(lambda: engine.run("stack", "rm", *stacks))
            wait_until(lambda: not task_containers(), 60, what="without tasks", details=task_containers)


def repeat(step: Callable[[], object], timeout: float = 60.0) -> None:
    """Repeat a step of a cleanup until it succeeds. Raises its error after ``timeout`` seconds."""
    failures: list[BaseException] = []

    def succeeds() -> bool:
        try:
            step()
        except (DemoFailed, AssertionError) as failure:
            failures.append(failure)
            return False
        return True

    wait_until(succeeds, timeout, what="done", details=lambda: failures[-1])


def is_healthy(container: str) -> bool:
    """True if ``erlmesh health`` in the container succeeds."""
    command = ["docker", "exec", container, "erlmesh", "health"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def cookie_in(folder: Path) -> Path:
    """A new file with a cookie, which the user of the containers may read."""
    cookie = folder / "cookie"
    cookie.write_text(secrets.token_hex(10))
    cookie.chmod(0o444)
    return cookie


def connected_count(container: str) -> int | None:
    """How many nodes the node in the container is connected to. None until it runs."""
    command = ["docker", "exec", container, "erlmesh", "health", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(json.loads(done.stdout)["nodes"]) if done.returncode == 0 else None
