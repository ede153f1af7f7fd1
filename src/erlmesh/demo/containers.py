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
from erlmesh.demo.actors import Actor, Failed
from erlmesh.demo.engine import IMAGE, ContainerShell, Engine
from erlmesh.demo.stage import Stage
from erlmesh.demo.story import interrupted

__all__ = ["run_in_containers"]

MEMBERS: Final = ":pg2.get_members(:group)"
NODES: Final = "Node.list()"
PID: Final = r"#PID<\d+\.\d+\.\d+>"
TICK: Final = 4.0
"""The nodes' net_ticktime: a silent one is given up after 3 to 5 seconds, where 60 would take 45 to 75."""
LONGEST: Final = TICK * 1.25 + 1.0
RETURN: Final = 20.0
"""Seconds within which those who were lost meet again: they are dialled again and again."""
AT_ONCE: Final = 1.0
"""Seconds within which the others know of an end that the kernel tells them of."""


def run_in_containers(image: str = IMAGE) -> int:
    """Plays it; 0 if every step was as it must be, 1 if one was not, 130 after Ctrl-C. Nothing is left behind."""
    began = time.monotonic()
    stage = Stage()
    former = signal.signal(signal.SIGTERM, interrupted)
    with tempfile.TemporaryDirectory(prefix="erlmesh-demo-") as folder:
        story: _Story | None = None
        try:
            story = _Story(stage, Path(folder), image)
            story.play()
        except Failed as failure:
            stage.fail(str(failure))
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            if story is not None:
                story.close()
            signal.signal(signal.SIGTERM, former)
    stage.chapter(f"All {stage.checked} checks hold; {time.monotonic() - began:.1f} s. Nothing is left behind.")
    return 0


def _build(image: str) -> None:
    """From the sources that this runs from. Raises Failed if it does not, or it cannot be built."""
    script = Path(erlmesh.__file__).parents[2] / "tools" / "image.sh"
    if not script.exists():
        raise Failed(f"this engine has no image {image}: name one with --image, or build it with `make image`")
    if subprocess.run([script], check=False).returncode:  # noqa: S603 - our own
        raise Failed("the image could not be built")


class _Story:
    def __init__(self, stage: Stage, folder: Path, image: str) -> None:
        self.stage = stage
        self.image = image
        cookie = folder / "cookie"
        cookie.write_text(secrets.token_hex(10))
        cookie.chmod(0o444)  # the container's user is another; the folder is ours alone
        self.engine = Engine(secrets.token_hex(3), cookie)
        self._actors: dict[str, Actor] = {}
        self._shells: list[Actor] = []

    def close(self) -> None:
        for shell in self._shells:
            shell.close()
        self.engine.close()

    def play(self) -> None:
        if not self.engine.has_image(self.image):
            self.stage.chapter(f"Building {self.image}")
            _build(self.image)
        self.stage.chapter("Three containers on a network of their own")
        self.engine.make_network()
        began = time.monotonic()
        for number, name in enumerate(("socrates", "plato", "aristotle"), 1):
            self._start(name, number)
        for actor in self.actors:
            actor.wait_up()
        self._check(f"three nodes are up {_after(began)} docker run")
        self._meet()
        self._pause()
        self._kill_a_process()
        self._kill_a_container()
        self._cut()
        self._look_in()
        self._two_more()
        self._stop()

    # The cast

    @property
    def actors(self) -> list[Actor]:
        return list(self._actors.values())

    def _named(self, *names: str) -> list[Actor]:
        return [self._actors[name] for name in names]

    def _start(self, name: str, number: int) -> Actor:
        command = self.engine.new_shell(self.image, name, number, "--env", f"ERLMESH_NET_TICKTIME={TICK:g}")
        self.stage.remark(f"docker run -i --name {name} --hostname {name} … {self.image} shell")
        return self._enter(name, ContainerShell(f"{name}@{self.engine.address(number)}", command))

    def _enter(self, name: str, actor: Actor) -> Actor:
        self._shells.append(actor)
        self._actors[name] = actor
        return actor

    def _docker(self, *arguments: str) -> float:
        """Shows the command and runs it; the moment before."""
        self.stage.remark("docker " + " ".join(arguments).replace(f"{self.engine.network}-", ""))
        began = time.monotonic()
        self.engine.run(*arguments)
        return began

    def _check(self, what: str) -> None:
        self.stage.check(True, what)

    def _make_group(self, actor: Actor) -> None:
        self.stage.type(actor, ":pg2.start()", expect=rf"\{{:ok, {PID}\}}")
        self.stage.type(actor, ":pg2.create(:group)", expect=":ok")
        self.stage.type(actor, ":pg2.join(:group, self)", expect=":ok")

    def _ping(self, actor: Actor, other: Actor) -> None:
        self.stage.type(actor, f'Node.ping(:"{other.name}")', expect=":pong")

    def _all_see(self, count: int, began: float, what: str, *names: str, within: float = LONGEST) -> None:
        """Waits until every one of ``names`` (or all) sees ``count`` members, and shows them."""
        actors = self._named(*names) if names else self.actors
        for actor in actors:
            self.stage.type_until(actor, MEMBERS, _has(count), f"{count} members", within=within + 5.0)
        took = time.monotonic() - began
        who = " and ".join(actor.alive_name for actor in actors) if len(actors) < len(self._actors) else "all nodes"
        self.stage.check(took < within, f"{what}: {who} see {count} members {_seconds(took)} later")

    # The chapters

    def _meet(self) -> None:
        say, (socrates, plato, aristotle) = self.stage, self._named("socrates", "plato", "aristotle")
        say.chapter("The post's lines")
        say.type(socrates, "Node.self", expect=f':"{socrates.name}"')
        for actor in (socrates, plato, aristotle):
            self._make_group(actor)
            say.type(actor, MEMBERS, expect=rf"\[{PID}\]")
        began = time.monotonic()
        self._ping(socrates, plato)
        self._all_see(2, began, "one ping", "socrates", "plato")
        began = time.monotonic()
        self._ping(aristotle, plato)
        self._all_see(3, began, "a third meets one, and is introduced to the other")

    def _pause(self) -> None:
        say, plato = self.stage, self.engine.container("plato")
        say.chapter(f"Plato is paused for longer than the nodes' patience ({TICK:g} s)")
        began = self._docker("pause", plato)
        self._all_see(2, began, "plato is silent", "socrates", "aristotle")
        began = self._docker("unpause", plato)
        self._all_see(3, began, "plato wakes up and returns by itself, with the members it had", within=RETURN)

    def _kill_a_process(self) -> None:
        say, (socrates, aristotle) = self.stage, self._named("socrates", "aristotle")
        say.chapter("A process is killed, from another node")
        say.type(
            socrates,
            "[victim] = [pid for pid in pg2.get_members(Atom('group')) if pid.node.name.startswith('aristotle')]",
        )
        began = time.monotonic()
        say.type(socrates, "Process.exit(victim, :kill)", expect="true|True")
        self._all_see(2, began, "aristotle's process is dead, its node is not", within=AT_ONCE)
        began = time.monotonic()
        say.type(aristotle, ":pg2.join(:group, self)", expect=":ok")
        self._all_see(3, began, "its successor joins", within=AT_ONCE)

    def _kill_a_container(self) -> None:
        say = self.stage
        say.chapter("The container of socrates is killed, and started again")
        began = self._docker("kill", self.engine.container("socrates"))
        self._all_see(2, began, "socrates is dead", "plato", "aristotle", within=AT_ONCE + 1.0)
        say.remark("docker start --attach --interactive socrates")
        began = time.monotonic()
        socrates = self._enter(
            "socrates", ContainerShell(self._actors["socrates"].name, self.engine.same_shell("socrates"))
        )
        socrates.wait_up()
        say.type_until(
            socrates,
            MEMBERS,
            lambda answer: answer == "{:error, {:no_such_group, :group}}" or _has(2)(answer),
            "a new life",
        )
        self._make_group(socrates)
        self._ping(socrates, self._actors["plato"])
        self._all_see(3, began, "socrates lives again", within=2 * LONGEST)

    def _cut(self) -> None:
        say, network, aristotle = self.stage, self.engine.network, self.engine.container("aristotle")
        say.chapter("Aristotle is cut off from the network, and plugged in again")
        began = self._docker("network", "disconnect", network, aristotle)
        self._all_see(2, began, "aristotle cannot be reached", "socrates", "plato")
        self._all_see(1, began, "nor can aristotle reach anybody", "aristotle")
        address = self._actors["aristotle"].name.partition("@")[2]
        began = self._docker("network", "connect", "--ip", address, network, aristotle)
        self._all_see(3, began, "the cut heals by itself", within=RETURN)

    def _look_in(self) -> None:
        say, plato = self.stage, self._actors["plato"]
        say.chapter("A second shell in plato's container, on the same node")
        say.remark("docker exec -i plato erlmesh shell --remsh")
        visitor = ContainerShell(plato.name, self.engine.remsh("plato"))
        self._shells.append(visitor)
        visitor.wait_up()
        say.type(visitor, "Node.self", expect=f':"{plato.name}"')
        say.type(visitor, MEMBERS)
        say.type_until(self._actors["socrates"], NODES, lambda answer: answer.count("@") == 2, "two nodes")
        self._check("whoever looks in is no node of the cluster")
        visitor.close()

    def _two_more(self) -> None:
        say = self.stage
        say.chapter("Two more nodes")
        began = time.monotonic()
        more = [self._start(name, number) for number, name in ((4, "diogenes"), (5, "hypatia"))]
        for actor in more:
            actor.wait_up()
            self._make_group(actor)
            self._ping(actor, self._actors["plato"])
        self._all_see(5, began, "two nodes more", within=2 * LONGEST)
        for actor in self.actors:
            say.type_until(actor, NODES, lambda answer: answer.count("@") == 4, "four others")
        self._check("five nodes, ten connections: a full mesh again")

    def _stop(self) -> None:
        say, name = self.stage, self.engine.container("hypatia")
        say.chapter("Hypatia leaves in good order")
        began = self._docker("stop", name)
        took = time.monotonic() - began
        code = self.engine.run("inspect", "--format", "{{.State.ExitCode}}", name)
        say.check(code == "0" and took < 3.0, f"docker stop took {_seconds(took)}, and the exit code is {code}")
        del self._actors["hypatia"]
        self._all_see(4, began, "hypatia has left", within=LONGEST)


def _has(count: int) -> Callable[[str], bool]:
    return lambda answer: answer.count("#PID<") == count


def _after(began: float) -> str:
    return f"{_seconds(time.monotonic() - began)} after"


def _seconds(took: float) -> str:
    return f"{took:.1f} s" if took >= 1.0 else f"{took * 1000:.0f} ms"
