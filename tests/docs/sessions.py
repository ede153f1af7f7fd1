"""Types the sessions of the documents into real shells and compares the answers.

Node names in containers (``socrates@172.18.0.2``) stand for nodes on 127.0.0.1 here: tests/docker runs containers.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from answers import is_query, same
from blocks import Block, Kill
from commands import check_command

from beam import otp_environment, programs
from cluster import free_port
from os_process import OsProcess
from polling import wait_until
from pynode import python_environment
from repl_driver import ErlmeshShell, Iex, ReplDriver

__all__ = ["Session"]

PATIENCE = 60.0
_ADDRESS = re.compile(r"\b(172\.1\d|10\.0)\.\d+\.\d+\b")
_PROMPT = re.compile(r"^(py|iex)\(([^)]+)\)\d+> ?(.*)$")
_CONTINUATION = re.compile(r"^ *\.\.+(?:\([^)]*\)\d+)?> ?(.*)$")


class _Shell(ErlmeshShell):
    def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        ReplDriver.__init__(self, name, command, environment)


class _Iex(Iex):
    def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        ReplDriver.__init__(self, name, command, environment)


class Session:
    """The programs of one session. They share a private EPMD and the folder ``home``, which is the current folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.shells: dict[str, ReplDriver] = {}
        self._others: list[OsProcess] = []
        (home / "cookie").touch(mode=0o600)
        (home / "cookie").write_text("monster")
        self._environment = {**python_environment(self.port, home), "PYTHONPATH": self._python_path()}
        self.start("epmd", "erlmesh epmd --address 127.0.0.1", "EPMD is up")

    def _python_path(self) -> str:
        return f"{python_environment(self.port, self.home)['PYTHONPATH']}:{self.home}"

    def close(self) -> None:
        for each in [*self.shells.values(), *reversed(self._others)]:
            each.close()

    # What a document can do

    def run(self, element: Block | Kill) -> None:
        """Does what one block shows. Raises AssertionError if something else happens."""
        if isinstance(element, Kill):
            self.shells.pop(element.node).kill()
        elif element.language == "console":
            self._type_all(element)
        elif element.language == "python":
            self._python(element.text)
        elif element.language == "elixir":
            self._elixir(element.text)

    def _elixir(self, text: str) -> None:
        """A module: the iex of the session compiles it."""
        (self.home / "module.ex").write_text(text)
        (iex,) = (shell for shell in self.shells.values() if isinstance(shell, _Iex))
        answer = iex.type(f'Code.require_file("{self.home / "module.ex"}"); :ok')
        assert answer.endswith(":ok"), answer

    def _python(self, text: str) -> None:
        name = re.match(r"# (\w+\.py)\n", text)
        path = self.home / (name[1] if name else "program.py")
        path.write_text(text)
        if name is None:
            self.start("program", f"python {path}")

    def _type_all(self, block: Block) -> None:
        for step, shown in _steps(_ADDRESS.sub("127.0.0.1", block.text)):
            if step.startswith("$ "):
                self._command(re.sub(r"\s+# .*$", "", step[2:]), shown, block)
            else:
                self._type(step, shown, block)

    # Lines at a prompt

    def _type(self, step: str, shown: str, block: Block) -> None:
        prompt = _PROMPT.match(step)
        assert prompt is not None, f"{block}: {step!r} is neither a prompt nor a command"
        _, node, line = prompt.groups()
        line += step[len(prompt[0]) :]
        shell = self.shells[node]
        answer = shell.type(line, timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while not same(shown, answer):
            if time.monotonic() > deadline or not (is_query(line) or "flush" in line):
                raise AssertionError(f"{block}: {step}\nshown:\n{shown}\nprinted:\n{answer}\n{shell.recent_log()}")
            again = shell.type(line, timeout=PATIENCE)
            answer = answer.removesuffix(":ok") + again if "flush" in line else again

    # Commands

    def _command(self, command: str, shown: str, block: Block) -> None:
        check_command(command)
        words = shlex.split(command.removesuffix("&"))
        match words:
            case ["docker", "run", *options]:
                self._container(options)
            case ["docker", "kill", name]:
                self.shells.pop(full(name)).kill()
            case ["docker", "start", "-ai", name]:
                self.shell(name)
            case ["python", *_]:
                self.start(words[1], command, shown.strip())
            case ["docker" | "docker-compose" | "make", *_]:
                pass
            case ["iex", *options]:
                self.iex(options[options.index("--name") + 1])
            case ["erlmesh", "shell" | "remsh", *options] if "|" not in words:
                self._shell(words[1:], options)
            case ["erlmesh", "start", *_]:
                self.start(words[1], command, " workers, " if "--workers" in words else " is up: ")
            case _:
                self._to_the_end(command, shown, block)

    def _shell(self, arguments: list[str], options: list[str]) -> None:
        if arguments[0] == "remsh":
            prompt = full(options[0])
        elif "--remsh" in options:
            prompt = full(options[options.index("--remsh") + 1])
        else:
            prompt = full(options[options.index("--name") + 1])
        self.shells[prompt] = _Shell(prompt, [sys.executable, "-m", "erlmesh", *arguments], self._environment)

    def _container(self, options: list[str]) -> None:
        name = full(options[options.index("--name") + 1])
        if any("elixir" in option for option in options):
            self.iex(name, "-kernel start_pg true")  # as docker/elixir/node.sh does
        else:
            self.shell(name)

    def shell(self, name: str) -> ReplDriver:
        """``erlmesh shell`` on a node of its own."""
        self._shell(["shell", "--name", full(name), "--cookie", "monster"], ["--name", name])
        return self.shells[full(name)]

    def iex(self, name: str, flags: str = "") -> ReplDriver:
        """A real iex, with flags for ``erl``. Raises NoSuchOtp."""
        folder = programs()
        command = [
            str(folder / "iex"),
            "--name",
            full(name),
            "--cookie",
            "monster",
            "--erl",
            f"-start_epmd false {flags}",
        ]
        self.shells[full(name)] = _Iex(full(name), command, otp_environment(self.port, self.home, folder))
        return self.shells[full(name)]

    def start(self, title: str, command: str, ready: str = "") -> OsProcess:
        """A program in the background, once it has printed ``ready``."""
        words = self._words(command)
        process = OsProcess(title, words, self._environment)
        self._others.append(process)
        wait_until(lambda: process.logged(ready) or not process.is_running(), what=ready, details=process.recent_log)
        assert process.is_running(), process.recent_log()
        return process

    def _to_the_end(self, command: str, shown: str, block: Block) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            done = subprocess.run(
                self._words(command), env=self._environment, capture_output=True, text=True, check=False, timeout=60
            )
            printed = done.stdout + done.stderr
            if same(shown, printed):
                return
            if time.monotonic() > deadline or not is_query(command):
                raise AssertionError(f"{block}: {command}\nshown:\n{shown}\nprinted:\n{printed}")

    def _words(self, command: str) -> list[str]:
        program, *arguments = shlex.split(command)
        if program == "erlmesh":
            return [sys.executable, "-m", "erlmesh", *arguments]
        assert program == "python", command
        return [sys.executable, *arguments]


def full(name: str) -> str:
    """The node name."""
    return name if "@" in name else f"{name}@127.0.0.1"


def _steps(text: str) -> Iterator[tuple[str, str]]:
    """Each command, or line at a prompt, with the lines that follow: the answer."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    current: str | None = None
    answer: list[str] = []
    for line in lines:
        continued = _CONTINUATION.match(line)
        if line.startswith("$ ") or _PROMPT.match(line):
            if current is not None:
                yield current, "\n".join(answer)
            current, answer = line, []
        elif continued and current is not None and not answer:
            current += "\n" + continued[1]
        else:
            answer.append(line)
    if current is not None:
        yield current, "\n".join(answer)
