"""The Python side of the tests."""

import ctypes
import itertools
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from erlmesh import Atom, GenServer, Process, expose


@expose
def length(text: bytes) -> int:
    """Count the characters of a text.

    "größe" has 5 of them, and "€" has 1.
    """
    return len(text.decode())


@expose
def divide(number: int, by: int = 0) -> float:
    return number / by


@expose
def wait(seconds: float) -> None:
    time.sleep(seconds)


@expose
def environment() -> list[str]:
    return [f"{name}={value}" for name, value in os.environ.items()]


@expose
def pids() -> tuple[int, int, int]:
    """Return the node, its guard, and a new grandchild."""
    child = subprocess.Popen(["sleep", "600"])
    return os.getpid(), os.getppid(), child.pid


@expose
def write_log() -> None:
    logging.getLogger("probe").warning("two\nlines with \\ and \\n")
    print("printed", flush=True)


@expose
def flood(lines: int) -> None:
    """Print long lines; with 0 without end."""
    for number in range(lines) if lines else itertools.count():
        print(f"{'':1000}line {number}")


@expose
def members(me: Process, group: bytes) -> int:
    return len(me.node.pg.get_members(group.decode()))


@expose
def hold_gil(path: bytes = b"") -> None:
    """Keep the GIL. Create the file before, if one is named."""
    if path:
        Path(path.decode()).touch()
    ctypes.PyDLL(None).sleep(600)  # a function of a PyDLL keeps the GIL


@expose
def crash() -> None:
    os.kill(os.getpid(), 9)


@expose
async def echo_process(me: Process, tag: Atom) -> None:
    """A process that answers calls."""
    async for message in me:
        match message:
            case (Atom("$gen_call"), caller, Atom("exit")):
                me.reply(caller, Atom("ok"))
                raise ValueError("told to exit")
            case (Atom("$gen_call"), caller, request):
                me.reply(caller, (tag, request))


class Counter(GenServer):
    def init(self, start=0):
        self.count = start

    def handle_call(self, request, caller):
        self.count += 1
        return self.count


async def main(me: Process) -> None:
    await me.sleep(0.2)  # it loads a model
    await Counter.start(me.node, name="counter", groups=["counters"])
    async for _ in me:
        pass


async def ends(me: Process) -> None:
    sys.stderr.write("a last word\n")
    raise RuntimeError("the application failed")


async def stubborn(me: Process) -> None:
    me.trap_exit = True
    async for _ in me:
        pass


async def unfinished_line(me: Process) -> None:
    print("loading ...", end="", flush=True)
    async for _ in me:
        pass
