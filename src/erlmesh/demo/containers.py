"""The post's last paragraph: the philosophers in containers, paused, killed, cut off, and joined by others.

The lines are typed into the containers' own shells, as ``docker run --interactive`` attaches them; what happens to the
containers is done with the commands that are shown. After each step every node is asked for the members it sees.
"""

from __future__ import annotations

import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import erlmesh
from erlmesh.demo.console import Console
from erlmesh.demo.docker import IMAGE, ContainerShell, Engine
from erlmesh.demo.local import raise_keyboard_interrupt
from erlmesh.demo.shells import DemoFailed, ShellProcess

__all__ = ["run_in_containers"]

MEMBERS: Final = ":pg2.get_members(:group)"
NODES: Final = "Node.list()"
PID: Final = r"#PID<\d+\.\d+\.\d+>"
NET_TICKTIME: Final = 4.0
"""The nodes' net_ticktime: a silent one is given up after 3 to 5 seconds, where 60 would take 45 to 75."""
DETECTION_LIMIT: Final = NET_TICKTIME * 1.25 + 1.0
RECONNECT_LIMIT: Final = 20.0
"""Seconds within which those who were lost meet again: they are dialled again and again."""
EXIT_DETECTION_LIMIT: Final = 1.0
"""Seconds within which the others know of an end that the kernel tells them of."""


def run_in_containers(image: str = IMAGE) -> int:
    """Plays it; 0 if every step was as it must be, 1 if one was not, 130 after Ctrl-C. Nothing is left behind."""
    began = time.monotonic()
    stage = Console()
    former = signal.signal(signal.SIGTERM, raise_keyboard_interrupt)
    with tempfile.TemporaryDirectory(prefix="erlmesh-demo-") as folder:
        story: _ContainerDemo | None = None
        try:
            story = _ContainerDemo(stage, Path(folder), image)
            story.run()
        except DemoFailed as failure:
            stage.fail(str(failure))
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            if story is not None:
                story.close()
            signal.signal(signal.SIGTERM, former)
    stage.heading(f"All {stage.checks_passed} checks hold; {time.monotonic() - began:.1f} s. Nothing is left behind.")
    return 0


def _build_image(image: str) -> None:
    """From the sources that this runs from. Raises Failed if it does not, or it cannot be built."""
    script = Path(erlmesh.__file__).parents[2] / "tools" / "image.sh"
    if not script.exists():
        raise DemoFailed(f"this engine has no image {image}: name one with --image, or build it with `make image`")
    if subprocess.run([script], check=False).returncode:  # noqa: S603 - our own
        raise DemoFailed("the image could not be built")


class _ContainerDemo:
    def __init__(self, stage: Console, folder: Path, image: str) -> None:
        self.console = stage
        self.image = image
        cookie = folder / "cookie"
        cookie.write_text(secrets.token_hex(10))
        cookie.chmod(0o444)  # the container's user is another; the folder is ours alone
        self.engine = Engine(secrets.token_hex(3), cookie)
        self._node_shells: dict[str, ShellProcess] = {}
        self._shells: list[ShellProcess] = []

    def close(self) -> None:
        for shell in self._shells:
            shell.close()
        self.engine.close()

    def run(self) -> None:
        if not self.engine.has_image(self.image):
            self.console.heading(f"Building {self.image}")
            _build_image(self.image)
        self.console.heading("Three containers on a network of their own")
        self.engine.make_network()
        began = time.monotonic()
        for number, name in enumerate(("socrates", "plato", "aristotle"), 1):
            self._start(name, number)
        for actor in self.node_shells:
            actor.wait_up()
        self._passed(f"three nodes are up {_elapsed(began)} docker run")
        self._connect_all()
        self._pause_node()
        self._kill_process()
        self._kill_container()
        self._partition_node()
        self._open_remsh()
        self._add_nodes()
        self._stop_node()

    # The cast

    @property
    def node_shells(self) -> list[ShellProcess]:
        return list(self._node_shells.values())

    def _shells_of(self, *names: str) -> list[ShellProcess]:
        return [self._node_shells[name] for name in names]

    def _start(self, name: str, number: int) -> ShellProcess:
        command = self.engine.shell_command(self.image, name, number, "--env", f"ERLMESH_NET_TICKTIME={NET_TICKTIME:g}")
        self.console.comment(f"docker run -i --name {name} --hostname {name} … {self.image} shell")
        return self._add_shell(name, ContainerShell(f"{name}@{self.engine.address(number)}", command))

    def _add_shell(self, name: str, shell: ShellProcess) -> ShellProcess:
        self._shells.append(shell)
        self._node_shells[name] = shell
        return shell

    def _run_docker(self, *arguments: str) -> float:
        """Shows the command and runs it; the moment before."""
        self.console.comment("docker " + " ".join(arguments).replace(f"{self.engine.network}-", ""))
        began = time.monotonic()
        self.engine.run(*arguments)
        return began

    def _passed(self, what: str) -> None:
        self.console.check(True, what)

    def _make_group(self, shell: ShellProcess) -> None:
        self.console.type(shell, ":pg2.start()", expect=rf"\{{:ok, {PID}\}}")
        self.console.type(shell, ":pg2.create(:group)", expect=":ok")
        self.console.type(shell, ":pg2.join(:group, self)", expect=":ok")

    def _ping(self, shell: ShellProcess, other: ShellProcess) -> None:
        self.console.type(shell, f'Node.ping(:"{other.name}")', expect=":pong")

    def _check_member_count(
        self, count: int, began: float, what: str, *names: str, within: float = DETECTION_LIMIT
    ) -> None:
        """Waits until every one of ``names`` (or all) sees ``count`` members, and shows them."""
        actors = self._shells_of(*names) if names else self.node_shells
        for actor in actors:
            self.console.type_until(actor, MEMBERS, _has_members(count), f"{count} members", within=within + 5.0)
        took = time.monotonic() - began
        who = (
            " and ".join(actor.alive_name for actor in actors) if len(actors) < len(self._node_shells) else "all nodes"
        )
        self.console.check(took < within, f"{what}: {who} see {count} members {_format_seconds(took)} later")

    # The chapters

    def _connect_all(self) -> None:
        say, (socrates, plato, aristotle) = self.console, self._shells_of("socrates", "plato", "aristotle")
        say.heading("The post's lines")
        say.type(socrates, "Node.self", expect=f':"{socrates.name}"')
        for actor in (socrates, plato, aristotle):
            self._make_group(actor)
            say.type(actor, MEMBERS, expect=rf"\[{PID}\]")
        began = time.monotonic()
        self._ping(socrates, plato)
        self._check_member_count(2, began, "one ping", "socrates", "plato")
        began = time.monotonic()
        self._ping(aristotle, plato)
        self._check_member_count(3, began, "a third meets one, and is introduced to the other")

    def _pause_node(self) -> None:
        say, plato = self.console, self.engine.container("plato")
        say.heading(f"Plato is paused for longer than the nodes' patience ({NET_TICKTIME:g} s)")
        began = self._run_docker("pause", plato)
        self._check_member_count(2, began, "plato is silent", "socrates", "aristotle")
        began = self._run_docker("unpause", plato)
        self._check_member_count(
            3, began, "plato wakes up and returns by itself, with the members it had", within=RECONNECT_LIMIT
        )

    def _kill_process(self) -> None:
        say, (socrates, aristotle) = self.console, self._shells_of("socrates", "aristotle")
        say.heading("A process is killed, from another node")
        say.type(
            socrates,
            "[victim] = [pid for pid in pg2.get_members(Atom('group')) if pid.node.name.startswith('aristotle')]",
        )
        began = time.monotonic()
        say.type(socrates, "Process.exit(victim, :kill)", expect="true|True")
        self._check_member_count(2, began, "aristotle's process is dead, its node is not", within=EXIT_DETECTION_LIMIT)
        began = time.monotonic()
        say.type(aristotle, ":pg2.join(:group, self)", expect=":ok")
        self._check_member_count(3, began, "its successor joins", within=EXIT_DETECTION_LIMIT)

    def _kill_container(self) -> None:
        say = self.console
        say.heading("The container of socrates is killed, and started again")
        began = self._run_docker("kill", self.engine.container("socrates"))
        self._check_member_count(2, began, "socrates is dead", "plato", "aristotle", within=EXIT_DETECTION_LIMIT + 1.0)
        say.comment("docker start --attach --interactive socrates")
        began = time.monotonic()
        socrates = self._add_shell(
            "socrates", ContainerShell(self._node_shells["socrates"].name, self.engine.restart_command("socrates"))
        )
        socrates.wait_up()
        say.type_until(
            socrates,
            MEMBERS,
            lambda answer: answer == "{:error, {:no_such_group, :group}}" or _has_members(2)(answer),
            "a new life",
        )
        self._make_group(socrates)
        self._ping(socrates, self._node_shells["plato"])
        self._check_member_count(3, began, "socrates lives again", within=2 * DETECTION_LIMIT)

    def _partition_node(self) -> None:
        say, network, aristotle = self.console, self.engine.network, self.engine.container("aristotle")
        say.heading("Aristotle is cut off from the network, and plugged in again")
        began = self._run_docker("network", "disconnect", network, aristotle)
        self._check_member_count(2, began, "aristotle cannot be reached", "socrates", "plato")
        self._check_member_count(1, began, "nor can aristotle reach anybody", "aristotle")
        address = self._node_shells["aristotle"].name.partition("@")[2]
        began = self._run_docker("network", "connect", "--ip", address, network, aristotle)
        self._check_member_count(3, began, "the cut heals by itself", within=RECONNECT_LIMIT)

    def _open_remsh(self) -> None:
        say, plato = self.console, self._node_shells["plato"]
        say.heading("A second shell in plato's container, on the same node")
        say.comment("docker exec -i plato erlmesh shell --remsh")
        visitor = ContainerShell(plato.name, self.engine.remsh_command("plato"))
        self._shells.append(visitor)
        visitor.wait_up()
        say.type(visitor, "Node.self", expect=f':"{plato.name}"')
        say.type(visitor, MEMBERS)
        say.type_until(self._node_shells["socrates"], NODES, lambda answer: answer.count("@") == 2, "two nodes")
        self._passed("whoever looks in is no node of the cluster")
        visitor.close()

    def _add_nodes(self) -> None:
        say = self.console
        say.heading("Two more nodes")
        began = time.monotonic()
        more = [self._start(name, number) for number, name in ((4, "diogenes"), (5, "hypatia"))]
        for actor in more:
            actor.wait_up()
            self._make_group(actor)
            self._ping(actor, self._node_shells["plato"])
        self._check_member_count(5, began, "two nodes more", within=2 * DETECTION_LIMIT)
        for actor in self.node_shells:
            say.type_until(actor, NODES, lambda answer: answer.count("@") == 4, "four others")
        self._passed("five nodes, ten connections: a full mesh again")

    def _stop_node(self) -> None:
        say, name = self.console, self.engine.container("hypatia")
        say.heading("Hypatia leaves in good order")
        began = self._run_docker("stop", name)
        took = time.monotonic() - began
        code = self.engine.run("inspect", "--format", "{{.State.ExitCode}}", name)
        say.check(code == "0" and took < 3.0, f"docker stop took {_format_seconds(took)}, and the exit code is {code}")
        del self._node_shells["hypatia"]
        self._check_member_count(4, began, "hypatia has left", within=DETECTION_LIMIT)


def _has_members(count: int) -> Callable[[str], bool]:
    return lambda answer: answer.count("#PID<") == count


def _elapsed(began: float) -> str:
    return f"{_format_seconds(time.monotonic() - began)} after"


def _format_seconds(took: float) -> str:
    return f"{took:.1f} s" if took >= 1.0 else f"{took * 1000:.0f} ms"
