"""The demo in containers: nodes are paused, killed, partitioned and added, as the post's last paragraph suggests.

The lines are typed into the shells of the containers, which ``docker run --interactive`` attaches. The docker commands
that are shown are the ones that run. After each step the demo checks which members every node sees.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import erlmesh
from erlmesh.demo.console import MEMBERS, PID, Console, has_members
from erlmesh.demo.docker import IMAGE, ContainerShell, Engine
from erlmesh.demo.local import raise_keyboard_interrupt
from erlmesh.demo.map_page import open_page, wait_for_enter
from erlmesh.demo.shells import DemoFailed, ShellProcess

__all__ = ["run_in_containers"]

NODES: Final = "Node.list()"
NET_TICKTIME: Final = 4.0
"""net_ticktime of the nodes, in seconds. A silent node is lost after 3 to 5 s; with the default 60 after 45 to 75 s."""
_TICK_TIME: Final = ("--env", f"ERLMESH_NET_TICKTIME={NET_TICKTIME:g}")
"""The option of docker. Nodes that are connected need the same time."""
DETECTION_LIMIT: Final = NET_TICKTIME * 1.25 + 1.0
"""Seconds within which the other nodes must lose a silent node."""
RECONNECT_LIMIT: Final = 20.0
"""Seconds within which lost nodes must reconnect."""
EXIT_DETECTION_LIMIT: Final = 1.0
"""Seconds within which the other nodes must see an exit. The connection or an exit signal reports it at once."""


def run_in_containers(image: str = IMAGE, *, show_map: bool = False) -> int:
    """Run the demo. Returns the exit code: 0 if every check passed, 1 if one failed, 130 after Ctrl-C.

    With ``show_map``, a map of the nodes runs beside it. All containers and networks are removed at the end.
    """
    started = time.monotonic()
    console = Console()
    try:
        exit_code = _run_and_clean_up(console, image, show_map)
    except DemoFailed as failure:  # of the cleanup
        console.fail(str(failure))
        exit_code = 1
    if exit_code == 0:
        took = time.monotonic() - started
        console.heading(f"All {console.checks_passed} checks passed in {took:.1f} s. All containers are removed.")
    return exit_code


def _run_and_clean_up(console: Console, image: str, show_map: bool) -> int:
    """Run the demo and return its exit code. Raises DemoFailed if not all containers and networks could be removed."""
    with tempfile.TemporaryDirectory(prefix="erlmesh-demo-") as folder, contextlib.ExitStack() as cleanup:
        previous_handler = signal.signal(signal.SIGTERM, raise_keyboard_interrupt)
        cleanup.callback(signal.signal, signal.SIGTERM, previous_handler)
        try:
            demo = _ContainerDemo(console, Path(folder), image)
            cleanup.callback(demo.close)
            demo.run(show_map=show_map)
        except DemoFailed as failure:
            console.fail(str(failure))
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


def _build_image(image: str) -> None:
    """Build the image from the source tree of this package. Raises DemoFailed if there is none or the build fails."""
    script = Path(erlmesh.__file__).parents[2] / "tools" / "image.sh"
    if not script.exists():
        raise DemoFailed(f"docker has no image {image}: name one with --image, or build it with `make image`")
    if subprocess.run([script], check=False).returncode:  # noqa: S603 - our own script
        raise DemoFailed("the image build failed")


class _ContainerDemo:
    def __init__(self, console: Console, folder: Path, image: str) -> None:
        self.console = console
        self.image = image
        cookie = folder / "cookie"
        cookie.write_text(secrets.token_hex(10))
        cookie.chmod(0o444)  # the container runs as another user; only our user can enter the folder
        self.engine = Engine(secrets.token_hex(3), cookie)
        self._node_shells: dict[str, ShellProcess] = {}
        self._shells: list[ShellProcess] = []

    def close(self) -> None:
        """Close all shells, then remove all containers. Raises DemoFailed if some are left."""
        with contextlib.ExitStack() as cleanup:  # it runs all steps, also after one that fails; the last one first
            cleanup.callback(self.engine.close)
            for shell in self._shells:
                cleanup.callback(shell.close)

    def run(self, *, show_map: bool) -> None:
        if not self.engine.has_image(self.image):
            self.console.heading(f"Building {self.image}")
            _build_image(self.image)
        self.console.heading("Three containers on a separate network")
        self.engine.make_network()
        started = time.monotonic()
        for number, name in enumerate(("socrates", "plato", "aristotle"), 1):
            self._start(name, number)
        for shell in self.node_shells:
            shell.wait_up()
        self._passed(f"three nodes are up {_elapsed(started)} docker run")
        if show_map:
            names = [shell.name for shell in self.node_shells]
            open_page(self.console, self.engine.start_map(self.image, names, *_TICK_TIME))
            self.console.before_part = lambda: wait_for_enter("\nPress Enter for the next part. ")
        self._connect_all()
        self._pause_node()
        self._kill_process()
        self._kill_container()
        self._partition_node()
        self._open_remsh()
        self._add_nodes()
        self._stop_node()
        if show_map:
            wait_for_enter("Press Enter to end the demo and the map. ")

    # Shells and docker commands

    @property
    def node_shells(self) -> list[ShellProcess]:
        """The shells of all running nodes."""
        return list(self._node_shells.values())

    def _shells_of(self, *names: str) -> list[ShellProcess]:
        return [self._node_shells[name] for name in names]

    def _start(self, name: str, number: int) -> ShellProcess:
        command = self.engine.shell_command(self.image, name, number, *_TICK_TIME)
        self.console.comment(f"docker run -i --name {name} --hostname {name} … {self.image} shell")
        return self._add_shell(name, ContainerShell(f"{name}@{self.engine.address(number)}", command))

    def _add_shell(self, name: str, shell: ShellProcess) -> ShellProcess:
        self._shells.append(shell)
        self._node_shells[name] = shell
        return shell

    def _run_docker(self, *arguments: str) -> float:
        """Show the docker command and run it. Returns the time before it ran."""
        self.console.comment("docker " + " ".join(arguments).replace(f"{self.engine.network}-", ""))
        started = time.monotonic()
        self.engine.run(*arguments)
        return started

    def _passed(self, statement: str) -> None:
        self.console.check(True, statement)

    def _ping(self, shell: ShellProcess, other: ShellProcess) -> None:
        self.console.type(shell, f'Node.ping(:"{other.name}")', expect=":pong")

    def _check_member_count(
        self, count: int, started: float, event: str, *names: str, within: float = DETECTION_LIMIT
    ) -> None:
        """Wait until each node of ``names`` (by default all) sees ``count`` members, and show them."""
        shells = self._shells_of(*names) if names else self.node_shells
        for shell in shells:
            self.console.type_until(shell, MEMBERS, has_members(count), f"{count} members", within=within + 5.0)
        took = time.monotonic() - started
        if len(shells) == len(self._node_shells):
            observers = "all nodes see"
        else:
            observers = " and ".join(shell.alive_name for shell in shells) + (" sees" if len(shells) == 1 else " see")
        members = f"{count} member" + "s" * (count != 1)
        self.console.check(took < within, f"{event}: {observers} {members} {_format_seconds(took)} later")

    # The steps of the demo

    def _connect_all(self) -> None:
        console, (socrates, plato, aristotle) = self.console, self._shells_of("socrates", "plato", "aristotle")
        console.part("The post's lines")
        console.type(socrates, "Node.self", expect=f':"{socrates.name}"')
        for shell in (socrates, plato, aristotle):
            console.create_group(shell)
            console.type(shell, MEMBERS, expect=rf"\[{PID}\]")
        started = time.monotonic()
        self._ping(socrates, plato)
        self._check_member_count(2, started, "one ping", "socrates", "plato")
        started = time.monotonic()
        self._ping(aristotle, plato)
        self._check_member_count(3, started, "a third node pings one node, and both are connected to it")

    def _pause_node(self) -> None:
        console, plato = self.console, self.engine.container("plato")
        console.part(f"Pause plato for longer than the net_ticktime of the nodes ({NET_TICKTIME:g} s)")
        started = self._run_docker("pause", plato)
        self._check_member_count(2, started, "plato is silent", "socrates", "aristotle")
        started = self._run_docker("unpause", plato)
        self._check_member_count(
            3, started, "plato runs again and reconnects by itself, with its members", within=RECONNECT_LIMIT
        )

    def _kill_process(self) -> None:
        console, (socrates, aristotle) = self.console, self._shells_of("socrates", "aristotle")
        console.part("Kill a process from another node")
        console.type(
            socrates,
            "[victim] = [pid for pid in pg2.get_members(Atom('group')) if pid.node.name.startswith('aristotle')]",
        )
        started = time.monotonic()
        console.type(socrates, "Process.exit(victim, :kill)", expect="true|True")
        self._check_member_count(2, started, "aristotle's process exited, its node runs", within=EXIT_DETECTION_LIMIT)
        started = time.monotonic()
        console.type(aristotle, ":pg2.join(:group, self)", expect=":ok")
        self._check_member_count(3, started, "the new process of that shell joins", within=EXIT_DETECTION_LIMIT)

    def _kill_container(self) -> None:
        console = self.console
        console.part("Kill the container of socrates, and start it again")
        started = self._run_docker("kill", self.engine.container("socrates"))
        self._check_member_count(
            2, started, "socrates is gone", "plato", "aristotle", within=EXIT_DETECTION_LIMIT + 1.0
        )
        console.comment("docker start --attach --interactive socrates")
        started = time.monotonic()
        socrates = self._add_shell(
            "socrates", ContainerShell(self._node_shells["socrates"].name, self.engine.restart_command("socrates"))
        )
        socrates.wait_up()
        console.type_until(
            socrates,
            MEMBERS,
            lambda answer: answer == "{:error, {:no_such_group, :group}}" or has_members(2)(answer),
            "a restarted node",
        )
        console.create_group(socrates)
        self._ping(socrates, self._node_shells["plato"])
        self._check_member_count(3, started, "socrates is back", within=2 * DETECTION_LIMIT)

    def _partition_node(self) -> None:
        console, network, aristotle = self.console, self.engine.network, self.engine.container("aristotle")
        console.part("Disconnect aristotle from the network, and connect it again")
        started = self._run_docker("network", "disconnect", network, aristotle)
        self._check_member_count(2, started, "aristotle cannot be reached", "socrates", "plato")
        self._check_member_count(1, started, "aristotle cannot reach the others", "aristotle")
        address = self._node_shells["aristotle"].name.partition("@")[2]
        started = self._run_docker("network", "connect", "--ip", address, network, aristotle)
        self._check_member_count(3, started, "the partition heals by itself", within=RECONNECT_LIMIT)

    def _open_remsh(self) -> None:
        console, plato = self.console, self._node_shells["plato"]
        console.part("A second shell in plato's container, on the same node")
        console.comment("docker exec -i plato erlmesh shell --remsh")
        remsh = ContainerShell(plato.name, self.engine.remsh_command("plato"))
        self._shells.append(remsh)
        remsh.wait_up()
        console.type(remsh, "Node.self", expect=f':"{plato.name}"')
        console.type(remsh, MEMBERS)
        console.type_until(self._node_shells["socrates"], NODES, lambda answer: answer.count("@") == 2, "two nodes")
        self._passed("the second shell is not a node of the cluster")
        remsh.close()

    def _add_nodes(self) -> None:
        console = self.console
        console.part("Add two nodes")
        started = time.monotonic()
        added = [self._start(name, number) for number, name in ((4, "diogenes"), (5, "hypatia"))]
        for shell in added:
            shell.wait_up()
            console.create_group(shell)
            self._ping(shell, self._node_shells["plato"])
        self._check_member_count(5, started, "two nodes are added", within=2 * DETECTION_LIMIT)
        for shell in self.node_shells:
            console.type_until(shell, NODES, lambda answer: answer.count("@") == 4, "four others")
        self._passed("five nodes, ten connections: a full mesh again")

    def _stop_node(self) -> None:
        console, name = self.console, self.engine.container("hypatia")
        console.part("Stop hypatia gracefully")
        started = self._run_docker("stop", name)
        took = time.monotonic() - started
        code = self.engine.run("inspect", "--format", "{{.State.ExitCode}}", name)
        console.check(
            code == "0" and took < 3.0, f"docker stop took {_format_seconds(took)}, and the exit code is {code}"
        )
        del self._node_shells["hypatia"]
        self._check_member_count(4, started, "hypatia stopped", within=DETECTION_LIMIT)


def _elapsed(started: float) -> str:
    return f"{_format_seconds(time.monotonic() - started)} after"


def _format_seconds(took: float) -> str:
    return f"{took:.1f} s" if took >= 1.0 else f"{took * 1000:.0f} ms"
