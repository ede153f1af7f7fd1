"""The story: two philosophers meet, a third meets both through one, one dies and comes back; then an Elixir node joins.

All on 127.0.0.1, with an EPMD port and a cookie of their own, so no other cluster of the machine is touched.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

from erlmesh.demo.console import Console
from erlmesh.demo.shells import DemoFailed, PythonShell, ShellProcess, iex

__all__ = ["raise_keyboard_interrupt", "run"]

HOST: Final = "127.0.0.1"
MEMBERS: Final = ":pg2.get_members(:group)"
WORKERS: Final = ":pg.get_members(:workers)"
PID: Final = r"#PID<\d+\.\d+\.\d+>"


def run(*, elixir: bool = True) -> int:
    """Plays it; 0 if every step was as it must be, 1 if one was not, 130 after Ctrl-C."""
    began = time.monotonic()
    stage = Console()
    former = signal.signal(signal.SIGTERM, raise_keyboard_interrupt)
    with tempfile.TemporaryDirectory(prefix="erlmesh-demo-") as folder:
        story = _LocalDemo(stage, Path(folder))
        try:
            story.run(elixir=elixir)
        except DemoFailed as failure:
            stage.fail(str(failure))
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            story.close()
            signal.signal(signal.SIGTERM, former)
    stage.heading(f"All {stage.checks_passed} checks hold; {time.monotonic() - began:.1f} s.")
    return 0


def raise_keyboard_interrupt(_number: int, _frame: FrameType | None) -> None:
    """For SIGTERM: what was started is ended too."""
    raise KeyboardInterrupt


class _LocalDemo:
    def __init__(self, stage: Console, folder: Path) -> None:
        self.console = stage
        self._shells: list[ShellProcess] = []
        self._port = _free_port()
        self._cookie = secrets.token_hex(10)
        self._cookie_file = folder / "cookie"
        self._cookie_file.touch(mode=0o600)
        self._cookie_file.write_text(self._cookie)

    def close(self) -> None:
        for actor in self._shells:
            actor.close()

    def run(self, *, elixir: bool) -> None:
        actors: list[ShellProcess] = [self._start(name) for name in ("socrates", "plato", "aristotle")]
        for actor in actors:
            actor.wait_up()
        socrates, plato, aristotle = actors
        self._isolated_nodes(socrates, plato)
        self._connect_two_nodes(socrates, plato)
        self._connect_third_node(socrates, plato, aristotle)
        self._kill_node(socrates, plato, aristotle)
        socrates = self._restart_node(plato, aristotle)
        self._pg_groups(socrates, plato, aristotle)
        if elixir:
            self._elixir_node(socrates, plato, aristotle)

    def _start(self, name: str) -> PythonShell:
        shell = PythonShell(f"{name}@{HOST}", self._cookie_file, self._port)
        self._shells.append(shell)
        return shell

    # The chapters

    def _isolated_nodes(self, socrates: ShellProcess, plato: ShellProcess) -> None:
        say, show = self.console, self.console.type
        say.heading("Two nodes, each a process of its own, that do not know each other")
        show(socrates, "Node.self", expect=f':"socrates@{HOST}"')
        answer = show(socrates, f'Node.ping(:"xenophon@{HOST}")', expect=":pang")
        say.check("knows no node" in answer, "a node that is not there answers :pang, and the shell says why")
        for actor in (socrates, plato):
            self._make_group(actor)
            show(actor, MEMBERS, expect=rf"\[{PID}\]")
            say.check(
                actor.value(MEMBERS) == f"[{actor.value('self')}]", f"{actor.alive_name} sees itself alone in the group"
            )

    def _make_group(self, shell: ShellProcess) -> None:
        self.console.type(shell, ":pg2.start()", expect=rf"\{{:ok, {PID}\}}")
        self.console.type(shell, ":pg2.create(:group)", expect=":ok")
        self.console.type(shell, ":pg2.join(:group, self)", expect=":ok")

    def _connect_two_nodes(self, socrates: ShellProcess, plato: ShellProcess) -> None:
        say = self.console
        say.heading("They meet by one ping, and their groups become one")
        say.type(socrates, f'Node.ping(:"plato@{HOST}")', expect=":pong")
        for actor in (socrates, plato):
            say.type_until(actor, MEMBERS, _has_members(2), "two members")
        self._check_same_members([socrates, plato], MEMBERS, 2)
        say.type(plato, "for p in pg2.get_members(Atom('group')): send(p, {:hello, self})")
        say.type_until(socrates, "flush", lambda answer: ":hello" in answer, "a message from plato")
        say.check(True, "a message reaches every member, here and there")

    def _connect_third_node(self, socrates: ShellProcess, plato: ShellProcess, aristotle: ShellProcess) -> None:
        say = self.console
        say.heading("A third node meets plato only, and is introduced to socrates")
        self._make_group(aristotle)
        say.type(aristotle, f'Node.ping(:"plato@{HOST}")', expect=":pong")
        for actor in (aristotle, socrates, plato):
            say.type_until(actor, MEMBERS, _has_members(3), "three members")
        self._check_same_members([socrates, plato, aristotle], MEMBERS, 3)
        say.type(socrates, "Node.list()", expect=r"\[.*\]")
        nodes = socrates.value("Node.list()")
        say.check(
            sorted(nodes.strip("[]").split(", ")) == [f':"aristotle@{HOST}"', f':"plato@{HOST}"'],
            "one ping made a full mesh: socrates knows aristotle, whom it never pinged",
        )

    def _kill_node(self, socrates: ShellProcess, plato: ShellProcess, aristotle: ShellProcess) -> None:
        say = self.console
        say.heading("kill -9 socrates")
        began = time.monotonic()
        socrates.kill()
        say.type_until(plato, MEMBERS, _has_members(2), "two members")
        took = time.monotonic() - began
        say.type_until(aristotle, MEMBERS, _has_members(2), "two members")
        say.type(plato, "Node.list", expect=rf'\[:"aristotle@{HOST}"\]')
        self._check_same_members([plato, aristotle], MEMBERS, 2)
        say.check(took < 1.0, f"{took * 1000:.0f} ms after the kill, plato no longer sees socrates in the group")

    def _restart_node(self, plato: ShellProcess, aristotle: ShellProcess) -> ShellProcess:
        say = self.console
        say.heading("socrates is started again")
        socrates = self._start("socrates")
        socrates.wait_up()
        say.type(socrates, MEMBERS, expect=r"\{:error, \{:no_such_group, :group\}\}")
        self._make_group(socrates)
        say.type(socrates, f'Node.ping(:"plato@{HOST}")', expect=":pong")
        for actor in (socrates, plato, aristotle):
            say.type_until(actor, MEMBERS, _has_members(3), "three members")
        self._check_same_members([socrates, plato, aristotle], MEMBERS, 3)
        return socrates

    def _pg_groups(self, socrates: ShellProcess, plato: ShellProcess, aristotle: ShellProcess) -> None:
        say = self.console
        say.heading("The same with pg, OTP's groups of today: no create, and never a wait")
        for actor in (socrates, plato, aristotle):
            say.type(actor, ":pg.join(:workers, self)", expect=":ok")
        say.type_until(socrates, WORKERS, _has_members(3), "three members")
        self._check_same_members([socrates, plato, aristotle], WORKERS, 3)
        say.type(plato, ":pg.leave(:workers, self)", expect=":ok")
        say.type_until(socrates, WORKERS, _has_members(2), "two members")
        say.type(plato, ":pg.join(:workers, self)", expect=":ok")

    def _elixir_node(self, socrates: ShellProcess, plato: ShellProcess, aristotle: ShellProcess) -> None:
        say = self.console
        program = shutil.which("iex")
        if program is None:
            say.heading("No Elixir here: the part with a real iex is left out")
            return
        say.heading("A real Elixir node joins")
        diotima = iex(program, f"diotima@{HOST}", self._cookie, self._port)
        self._shells.append(diotima)
        diotima.wait_up()
        say.type(diotima, f'Node.ping(:"plato@{HOST}")', expect=":pong")
        say.type(diotima, ":pg.start_link()", expect=rf"\{{:ok, {PID}\}}")
        say.type(diotima, ":pg.join(:workers, self)", expect=":ok")
        for actor in (diotima, socrates):
            say.type_until(actor, WORKERS, _has_members(4), "four members")
        self._check_same_members([socrates, plato, aristotle], WORKERS, 4)
        say.type_until(diotima, "Node.list", lambda answer: answer.count("@") == 3, "three nodes")
        say.check(True, "Elixir is in the mesh: it knows all three, and all see four workers")
        say.type(diotima, "for p <- :pg.get_members(:workers), do: send(p, {:hello, self()})")
        say.type_until(aristotle, "flush", lambda answer: "{:hello, #PID<" in answer, "a message from Elixir")
        began = time.monotonic()
        diotima.kill()
        say.comment("kill -9 diotima")
        say.type_until(socrates, WORKERS, _has_members(3), "three members")
        took = time.monotonic() - began
        say.check(
            took < 1.0, f"{took * 1000:.0f} ms after the kill, socrates no longer sees Elixir's shell in the group"
        )

    def _check_same_members(self, shells: list[ShellProcess], line: str, count: int) -> None:
        """Every node names the same processes, down to the life of their nodes (which no print of a pid shows)."""
        question = f"sorted((p.node.name, p.id, p.serial, p.creation) for p in {_to_python(line)})"
        views = {actor.value(question) for actor in shells}
        alive = {actor.value("'{0.node.name} {0.id} {0.serial} {0.creation}'.format(self)") for actor in shells}
        view = views.pop()
        found = view.count("@")
        ours = sum(f"'{words[0]}', {words[1]}, {words[2]}, {words[3]}" in view for words in _split_answers(alive))
        names = " and ".join(actor.alive_name for actor in shells)
        self.console.check(
            not views and found == count and ours == len(shells),
            f"{names} see the same {count} processes, and their own of this very life among them",
        )


def _to_python(line: str) -> str:
    """A line of the story as Python: ``:pg2.get_members(:group)`` → ``pg2.get_members(Atom("group"))``."""
    function, _, group = line.strip(":)").partition("(:")
    return f'{function}(Atom("{group}"))'


def _split_answers(answers: set[str]) -> list[list[str]]:
    return [answer.strip("'").split() for answer in answers]


def _has_members(count: int) -> Callable[[str], bool]:
    return lambda answer: answer.count("#PID<") == count


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])
