"""Nodes that are not BEAMs: a C node of OTP's ``ei`` and a Java node of JInterface, each in its own process.

They know few signals. ``c_node.c`` and ``JavaNode.java`` say what they print, and which messages they answer.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from beam import installed_otp
from erlmesh.terms import Atom
from os_process import OsProcess
from polling import wait_until
from skips import skip_or_fail

__all__ = ["ForeignNode", "c_node", "compiled_c_node", "java_node"]

HERE = Path(__file__).parent
JINTERFACE = Path("/usr/share/java/OtpErlang.jar")
"""Where Debian's package erlang-jinterface puts it."""


class ForeignNode(OsProcess):
    """A C node or a Java node. It is ready when the constructor returns."""

    def __init__(self, name: str, command: list[str], *, epmd_port: int) -> None:
        super().__init__(name, command, {"ERL_EPMD_PORT": str(epmd_port)})
        self.name = name
        self.atom = Atom(name)
        self.server = (Atom("any"), self.atom)
        """The process that answers."""
        wait_until(lambda: self.logged("READY") or not self.is_running(), 60, what="ready", details=self.recent_log)
        assert self.is_running(), self.recent_log()

    def stop(self) -> None:
        """SIGSTOP. No thread of the program runs any more when this returns, so it answers nothing."""
        super().stop()
        wait_until(self._is_stopped, what="stopped")

    def _is_stopped(self) -> bool:
        states = [
            path.read_text().rpartition(")")[2].split()[0] for path in Path("/proc").glob(f"{self.pid}/task/*/stat")
        ]
        return set(states) == {"T"}


def c_node(program: Path, alive: str, *, epmd_port: int, peer: str | None = None) -> ForeignNode:
    """A C node, which waits for connections, or connects to ``peer``."""
    command = [str(program), alive, "monster", *([peer] if peer else [])]
    return ForeignNode(f"{alive}@127.0.0.1", command, epmd_port=epmd_port)


def java_node(alive: str, *, epmd_port: int, home: Path) -> ForeignNode:
    """A Java node. Skips the test if there is no JDK or no JInterface."""
    java = shutil.which("java")
    if java is None or shutil.which("javac") is None:
        skip_or_fail("there is no JDK")
    if not JINTERFACE.exists():
        skip_or_fail("JInterface is not installed (erlang-jinterface)")
    name = f"{alive}@127.0.0.1"
    options = [f"-Duser.home={home}", "-XX:TieredStopAtLevel=1", "-cp", str(JINTERFACE)]
    return ForeignNode(name, [java, *options, str(HERE / "JavaNode.java"), name, "monster"], epmd_port=epmd_port)


def compiled_c_node(folder: Path) -> Path:
    """Compile the C node into ``folder``. Skips the test if there is no C compiler or no ``ei``."""
    compiler = shutil.which("gcc")
    if compiler is None or installed_otp() is None:
        skip_or_fail("there is no C compiler, or no Erlang")
    ask = ["erl", "-noshell", "-eval", "io:put_chars(code:root_dir()), halt()."]
    otp = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout) / "usr"
    if not (otp / "include/ei.h").exists():
        skip_or_fail("the library ei is not installed (erlang-dev)")
    program = folder / "c_node"
    libraries = [f"-I{otp}/include", f"-L{otp}/lib", "-lei", "-lpthread"]
    subprocess.run([compiler, "-D_REENTRANT", "-o", program, HERE / "c_node.c", *libraries], check=True)
    return program
