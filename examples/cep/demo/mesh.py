"""The operating system processes of the demo: nodes, the observer, and the relay between two sides.

``socrates``, ``plato``, the source ``athens`` and the observer ``agora`` are one side. ``aristotle`` and the source
``stagira`` are the other one. The links between the sides go through the relay, so stopping it cuts them.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

import erlmesh
from erlmesh.demo.shells import DemoFailed

__all__ = ["EXAMPLES", "OWNERS", "SOURCES", "LocalMesh", "Observer", "Program", "Sides", "app_of"]

HOST: Final = "127.0.0.1"
OWNERS: Final = ("socrates", "plato", "aristotle")
SOURCES: Final = {"athens": "0/2", "stagira": "1/2"}
"""The sources, and the part of the symbols that each has."""
Sides = tuple[tuple[str, ...], tuple[str, ...]]
"""The nodes on the two sides of a cut."""
SIDES: Final[Sides] = (("socrates", "plato", "athens", "agora"), ("aristotle", "stagira"))
ANSWER_TIMEOUT: Final = 20.0
ELIXIR_TIMEOUT: Final = 30.0
EXAMPLES: Final = Path(__file__).parents[2]


class Program:
    """A process of the demo. What it writes to stderr goes to a file. It ends when the demo ends."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self.may_end = False
        """Its end is a part of the scene."""
        self._lines: queue.Queue[str | None] = queue.Queue()
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **environment},
                cwd=EXAMPLES,
                text=True,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends it.
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children. Raises DemoFailed if it has ended by itself."""
        self.check()
        os.killpg(self._process.pid, number)
        self.may_end = self.may_end or number in (signal.SIGKILL, signal.SIGTERM)

    def check(self) -> None:
        """Raises DemoFailed if it has ended by itself."""
        if not self.may_end and not self.is_running():
            raise DemoFailed(f"{self.name} has ended: {self.last_lines()}")

    def wait(self, timeout: float) -> int:
        """Wait for its end, and return the exit code. Raises DemoFailed if it does not end in time."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"{self.name} did not end within {timeout:g} s") from None

    def write(self, line: str) -> None:
        """Write a line to its stdin. Raises DemoFailed if it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:
            raise DemoFailed(f"{self.name} has ended: {self.last_lines()}") from None

    def read(self, timeout: float = ANSWER_TIMEOUT) -> str:
        """The next line of its stdout. Raises DemoFailed if it ends, or says nothing in time."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise DemoFailed(f"{self.name} did not answer within {timeout:g} s: {self.last_lines()}") from None
        if line is None:
            raise DemoFailed(f"{self.name} has ended: {self.last_lines()}")
        return line

    def last_lines(self) -> str:
        """The end of what it has logged."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-5:]) or "it has logged nothing"

    def close(self) -> None:
        """Kill it, and release its pipes. May be called again."""
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # It ends a stopped process, too.
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


class Observer:
    """The observer's side of the demo: a question is a line of JSON, and so is the answer. See cep.demo.observer."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def ask(self, question: str, *, timeout: float = ANSWER_TIMEOUT, **arguments: Any) -> Any:
        """Raises DemoFailed if the observer ends, or does not answer in time."""
        self.program.write(json.dumps({"do": question, **arguments}))
        while not (line := self.program.read(timeout)).startswith("{"):
            pass  # `erlmesh start` says that the node is up.
        answer = json.loads(line)
        if "error" in answer:
            raise DemoFailed(f"{question}: {answer['error']}")
        return answer["value"]


class LocalMesh:
    """All programs on this machine, with an EPMD port and a cookie of their own."""

    sides: Sides = SIDES
    command_time = 0.0
    full_rate = 60
    why_no_elixir = "`elixir` is not installed"

    def __init__(self, folder: Path, net_ticktime: float) -> None:
        self._folder = folder
        self._net_ticktime = net_ticktime
        self._programs: dict[str, Program] = {}
        self._old: list[Program] = []
        self._cookie = folder / "cookie"
        self._cookie.touch(mode=0o600)
        self._cookie.write_text(secrets.token_hex(10))
        names = [name for side in SIDES for name in side]
        self.epmd_port, *ports = _free_ports(1 + 2 * len(names))
        self._ports = dict(zip(names, ports, strict=False))
        self._relayed = dict(zip(names, ports[len(names) :], strict=True))

    # The programs

    def start(self) -> Observer:
        """Start all of them. Return when they run; that they have met is another question."""
        pairs = [f"{self._relayed[name]}={port}" for name, port in self._ports.items()]
        relay = self._run("relay", [sys.executable, "-m", "cep.relay", *pairs])
        if relay.read() != "ready":
            raise DemoFailed("the relay does not start")
        self.start_node("agora")
        observer = Observer(self._programs["agora"])
        observer.ask("ready")
        for name in (*OWNERS, *SOURCES):
            self.start_node(name)
        return observer

    def start_node(self, name: str) -> None:
        """Start a node, or start it again."""
        command = [sys.executable, "-m", "erlmesh", "start", "--verbose", *self._node_options(name)]
        if name != "agora":
            command += ["--join", f"agora@{HOST}"]
        environment = {"CEP_UNTIL_STDIN_ENDS": "yes", "CEP_PART": SOURCES.get(name, "")}
        self._run(name, [*command, "--app", app_of(name)], environment)

    def signal(self, name: str, number: signal.Signals) -> None:
        self._programs[name].send(number)

    def check(self) -> None:
        """Raises DemoFailed if a program has ended by itself."""
        for program in self._programs.values():
            program.check()

    def cut(self) -> None:
        """Stop the relay: no packet passes between the two sides."""
        self.signal("relay", signal.SIGSTOP)

    def heal(self) -> None:
        self.signal("relay", signal.SIGCONT)

    def stop_in_order(self, name: str, timeout: float) -> int:
        """Send SIGTERM, wait, and return the exit code."""
        self.signal(name, signal.SIGTERM)
        return self._programs[name].wait(timeout)

    def run_elixir(self) -> list[str] | None:
        """Run the Elixir source and sink, and return the lines that they print. None if Elixir is not installed."""
        elixir = shutil.which("elixir")
        if elixir is None:
            return None
        erl = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1} -kernel logger_level error"
        erl += f" -kernel net_ticktime {max(1, round(self._net_ticktime))}"
        command = [elixir, "--name", f"sappho@{HOST}", "--cookie", self._cookie.read_text(), "--erl", erl]
        files = [str(EXAMPLES / "cep" / "elixir" / name) for name in ("source.exs", "sink.exs", "source_and_sink.exs")]
        command += ["-r", files[0], "-r", files[1], files[2], f"plato@{HOST}"]
        program = self._run("sappho", command, {"ERL_EPMD_ADDRESS": "127.0.0.1"})
        lines = []
        while (line := program.read(ELIXIR_TIMEOUT)) != "done":
            lines.append(line)
        program.wait(ELIXIR_TIMEOUT)
        return lines

    def close(self) -> None:
        """End all programs, also those that are stopped. May be called again."""
        for program in [*self._programs.values(), *self._old]:
            program.close()

    def logs(self) -> list[Path]:
        return sorted(self._folder.glob("*.log"))

    def _run(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> Program:
        if (old := self._programs.get(name)) is not None:
            self._old.append(old)
        paths = [str(EXAMPLES), str(Path(erlmesh.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        base = {name: "" for name in os.environ if name.startswith("ERLMESH_") and name != "ERLMESH_PURE"}
        base |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "ERL_EPMD_PORT": str(self.epmd_port)}
        program = Program(name, command, {**base, **(environment or {})}, self._folder / f"{name}.log")
        self._programs[name] = program
        return program

    def _node_options(self, name: str) -> list[str]:
        """A node finds those of the other side at the ports of the relay."""
        (other_side,) = (side for side in SIDES if name not in side)
        far = [f"--resolve={each}@{HOST}={HOST}:{self._relayed[each]}" for each in other_side]
        options = ["--name", f"{name}@{HOST}", "--cookie-file", str(self._cookie), "--port", str(self._ports[name])]
        return [*options, "--net-ticktime", f"{self._net_ticktime:g}", *far]


def app_of(name: str) -> str:
    """The program of a node, as ``erlmesh start --app`` gets it."""
    if name == "agora":
        return "cep.demo.observer:observe"
    return "cep.app:owner" if name in OWNERS else "cep.app:source"


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]
