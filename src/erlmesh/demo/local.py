"""The local demo: two nodes connect, a third joins the mesh through one of them, one is killed and restarted.

Then an Elixir node joins. All nodes run on 127.0.0.1 with their own EPMD port and cookie. So the demo does not affect
other clusters on the machine.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Final

from erlmesh.demo.console import MEMBERS, PID, Console, has_members
from erlmesh.demo.map_page import LocalMap, open_page, wait_for_enter
from erlmesh.demo.shells import DemoFailed, PythonShell, ShellProcess, iex

__all__ = ["HOST", "free_port", "raise_keyboard_interrupt", "run"]

HOST: Final = "127.0.0.1"
WORKERS: Final = ":pg.get_members(:workers)"


def run(*, elixir: bool = True, show_map: bool = False) -> int:
    """Run the demo. Returns the exit code: 0 if every check passed, 1 if one failed, 130 after Ctrl-C.

    With ``show_map``, a map of the nodes runs beside it.
    """
    started = time.monotonic()
    console = Console()
    previous_handler = signal.signal(signal.SIGTERM, raise_keyboard_interrupt)
    with tempfile.TemporaryDirectory(prefix="erlmesh-demo-") as folder:
        demo = _LocalDemo(console, Path(folder))
        try:
            demo.run(elixir=elixir, show_map=show_map)
        except DemoFailed as failure:
            console.fail(str(failure))
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            demo.close()
            signal.signal(signal.SIGTERM, previous_handler)
    console.heading(f"All {console.checks_passed} checks passed in {time.monotonic() - started:.1f} s.")
    return 0


def raise_keyboard_interrupt(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGTERM like Ctrl-C, so that the shells are closed."""
    raise KeyboardInterrupt


class _LocalDemo:
    def __init__(self, console: Console, folder: Path) -> None:
        self.console = console
        self._shells: list[ShellProcess] = []
        self._map: LocalMap | None = None
        self._port = free_port()
        self._cookie = secrets.token_hex(10)
        self._cookie_file = folder / "cookie"
        self._map_log = folder / "map.log"
        self._cookie_file.touch(mode=0o600)
        self._cookie_file.write_text(self._cookie)

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
        for shell in self._shells:
            shell.close()

    def run(self, *, elixir: bool, show_map: bool) -> None:
        shells: list[ShellProcess] = [self._start(name) for name in ("socrates", "plato", "aristotle")]
        for shell in shells:
            shell.wait_up()
        if show_map:
            self._show_map([shell.name for shell in shells])
        socrates, plato, aristotle = shells
        self._isolated_nodes(socrates, plato)
        self._connect_two_nodes(socrates, plato)
        self._connect_third_node(socrates, plato, aristotle)
        self._kill_node(socrates, plato, aristotle)
        socrates = self._restart_node(plato, aristotle)
        self._pg_groups(socrates, plato, aristotle)
        if elixir:
            self._elixir_node(socrates, plato, aristotle)
        if show_map:
            wait_for_enter("Press Enter to end the demo and the map. ")

    def _show_map(self, names: list[str]) -> None:
        self._map = LocalMap(names, self._cookie_file, self._port, self._map_log)
        open_page(self.console, self._map.url)
        self.console.before_part = lambda: wait_for_enter("\nPress Enter for the next part. ")

    def _start(self, name: str) -> PythonShell:
        shell = PythonShell(f"{name}@{HOST}", self._cookie_file, self._port)
        self._shells.append(shell)
        return shell

    # The steps of the demo

    def _isolated_nodes(self, socrates: ShellProcess, plato: ShellProcess) -> None:
        console = self.console
        console.part("Two nodes, each in its own process, not connected yet")
        console.type(socrates, "Node.self", expect=f':"socrates@{HOST}"')
        answer = console.type(socrates, f'Node.ping(:"xenophon@{HOST}")', expect=":pang")
        console.check("knows no node" in answer, "a ping of a missing node returns :pang, and the shell prints why")
        for shell in (socrates, plato):
            console.create_group(shell)
            console.type(shell, MEMBERS, expect=rf"\[{PID}\]")
            console.check(
                shell.value(MEMBERS) == f"[{shell.value('self')}]", f"{shell.alive_name} sees one member: itself"
            )

    def _connect_two_nodes(self, socrates: ShellProcess, plato: ShellProcess) -> None:
        console = self.console
        console.part("One ping connects the two nodes and merges their groups")
        console.type(socrates, f'Node.ping(:"plato@{HOST}")', expect=":pong")
        for shell in (socrates, plato):
            console.type_until(shell, MEMBERS, has_members(2), "two members")
        self._check_same_members([socrates, plato], MEMBERS, 2)
        console.type(plato, "for p in pg2.get_members(Atom('group')): send(p, {:hello, self})")
        console.type_until(socrates, "flush", lambda answer: ":hello" in answer, "a message from plato")
        console.check(True, "a message reaches every member, local and remote")

    def _connect_third_node(self, socrates: ShellProcess, plato: ShellProcess, aristotle: ShellProcess) -> None:
        console = self.console
        console.part("A third node pings only plato, and is connected to socrates too")
        console.create_group(aristotle)
        console.type(aristotle, f'Node.ping(:"plato@{HOST}")', expect=":pong")
        for shell in (aristotle, socrates, plato):
            console.type_until(shell, MEMBERS, has_members(3), "three members")
        self._check_same_members([socrates, plato, aristotle], MEMBERS, 3)
        console.type(socrates, "Node.list()", expect=r"\[.*\]")
        nodes = socrates.value("Node.list()")
        console.check(
            sorted(nodes.strip("[]").split(", ")) == [f':"aristotle@{HOST}"', f':"plato@{HOST}"'],
            "one ping made a full mesh: socrates is connected to aristotle without a ping",
        )

    def _kill_node(self, socrates: ShellProcess, plato: ShellProcess, aristotle: ShellProcess) -> None:
        console = self.console
        console.part("Kill socrates with kill -9")
        started = time.monotonic()
        socrates.kill()
        console.type_until(plato, MEMBERS, has_members(2), "two members")
        took = time.monotonic() - started
        console.type_until(aristotle, MEMBERS, has_members(2), "two members")
        console.type(plato, "Node.list", expect=rf'\[:"aristotle@{HOST}"\]')
        self._check_same_members([plato, aristotle], MEMBERS, 2)
        console.check(took < 1.0, f"{took * 1000:.0f} ms after the kill, plato no longer sees socrates in the group")

    def _restart_node(self, plato: ShellProcess, aristotle: ShellProcess) -> ShellProcess:
        console = self.console
        console.part("Restart socrates")
        socrates = self._start("socrates")
        socrates.wait_up()
        console.type(socrates, MEMBERS, expect=r"\{:error, \{:no_such_group, :group\}\}")
        console.create_group(socrates)
        console.type(socrates, f'Node.ping(:"plato@{HOST}")', expect=":pong")
        for shell in (socrates, plato, aristotle):
            console.type_until(shell, MEMBERS, has_members(3), "three members")
        self._check_same_members([socrates, plato, aristotle], MEMBERS, 3)
        return socrates

    def _pg_groups(self, socrates: ShellProcess, plato: ShellProcess, aristotle: ShellProcess) -> None:
        console = self.console
        console.part("The same with pg, the current groups of OTP: no create, and no call waits")
        for shell in (socrates, plato, aristotle):
            console.type(shell, ":pg.join(:workers, self)", expect=":ok")
        console.type_until(socrates, WORKERS, has_members(3), "three members")
        self._check_same_members([socrates, plato, aristotle], WORKERS, 3)
        console.type(plato, ":pg.leave(:workers, self)", expect=":ok")
        console.type_until(socrates, WORKERS, has_members(2), "two members")
        console.type(plato, ":pg.join(:workers, self)", expect=":ok")

    def _elixir_node(self, socrates: ShellProcess, plato: ShellProcess, aristotle: ShellProcess) -> None:
        console = self.console
        program = shutil.which("iex")
        if program is None:
            console.heading("Elixir is not installed: the part with iex is skipped")
            return
        console.part("A real Elixir node joins")
        diotima = iex(program, f"diotima@{HOST}", self._cookie, self._port)
        self._shells.append(diotima)
        diotima.wait_up()
        console.type(diotima, f'Node.ping(:"plato@{HOST}")', expect=":pong")
        console.type(diotima, ":pg.start_link()", expect=rf"\{{:ok, {PID}\}}")
        console.type(diotima, ":pg.join(:workers, self)", expect=":ok")
        for shell in (diotima, socrates):
            console.type_until(shell, WORKERS, has_members(4), "four members")
        self._check_same_members([socrates, plato, aristotle], WORKERS, 4)
        console.type_until(diotima, "Node.list", lambda answer: answer.count("@") == 3, "three nodes")
        console.check(True, "Elixir is in the mesh: it is connected to all three nodes, and all see four workers")
        console.type(diotima, "for p <- :pg.get_members(:workers), do: send(p, {:hello, self()})")
        console.type_until(aristotle, "flush", lambda answer: "{:hello, #PID<" in answer, "a message from Elixir")
        started = time.monotonic()
        diotima.kill()
        console.comment("kill -9 diotima")
        console.type_until(socrates, WORKERS, has_members(3), "three members")
        took = time.monotonic() - started
        console.check(
            took < 1.0, f"{took * 1000:.0f} ms after the kill, socrates no longer sees the Elixir shell in the group"
        )

    def _check_same_members(self, shells: list[ShellProcess], line: str, count: int) -> None:
        """Check that all shells list the same pids, with the same creations (a printed pid does not show them)."""
        query = f"sorted((p.node.name, p.id, p.serial, p.creation) for p in {_to_python(line)})"
        views = {shell.value(query) for shell in shells}
        own_pids = {shell.value("'{0.node.name} {0.id} {0.serial} {0.creation}'.format(self)") for shell in shells}
        view = views.pop()
        member_count = view.count("@")
        own_count = sum(
            f"'{parts[0]}', {parts[1]}, {parts[2]}, {parts[3]}" in view for parts in _split_answers(own_pids)
        )
        names = [shell.alive_name for shell in shells]
        self.console.check(
            not views and member_count == count and own_count == len(shells),
            f"{', '.join(names[:-1])} and {names[-1]} see the same {count} processes, their own shells included",
        )


def _to_python(line: str) -> str:
    """Translate a line of the demo to Python: ``:pg2.get_members(:group)`` → ``pg2.get_members(Atom("group"))``."""
    function, _, group = line.strip(":)").partition("(:")
    return f'{function}(Atom("{group}"))'


def _split_answers(answers: set[str]) -> list[list[str]]:
    return [answer.strip("'").split() for answer in answers]


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])
