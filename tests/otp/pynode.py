"""An erlmesh node in its own Python process, so that ``kill -9`` and SIGSTOP are real."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from erlmesh.terms import Atom, Pid, Term
from os_process import NodeProcess, sorted_pids
from polling import HANG

__all__ = ["PyNode", "python_environment"]

DRIVER = Path(__file__).with_name("pynode_driver.py")
SRC = Path(__file__).parents[2] / "src"


class PyNode(NodeProcess):
    """A node named ``name`` (on 127.0.0.1 unless it says otherwise); ``options`` are those of :class:`erlmesh.Node`.
    ``event_loop`` is ``asyncio`` or ``uvloop``.
    """

    def __init__(
        self,
        name: str,
        *,
        epmd_port: int,
        home: Path,
        cookie: str = "monster",
        environment: Mapping[str, str] | None = None,
        core: int | None = None,
        exec_prefix: Sequence[str] = (),
        event_loop: str = "asyncio",
        **options: Any,
    ) -> None:
        full = name if "@" in name else f"{name}@127.0.0.1"
        node_options = json.dumps({"name": full, "cookie": cookie, **options})
        command = [sys.executable, "-W", "error", str(DRIVER), node_options, event_loop]
        environment_of_node = {**python_environment(epmd_port, home), **(environment or {})}
        super().__init__(full, command, environment_of_node, core=core, exec_prefix=exec_prefix)
        self.atom = Atom(full)

    def eval(self, source: str, *, timeout: float = HANG, **bindings: Any) -> Any:
        """The value of ``source``: Python, in a process ``me`` of the ``node``; awaited if it is a coroutine."""
        return pickle.loads(self.request(source.encode(), pickle.dumps(bindings), timeout=timeout))

    async def eval_async(self, source: str, *, timeout: float = HANG, **bindings: Any) -> Any:
        """:meth:`eval` while the test's own event loop runs."""
        return pickle.loads(await self.request_async(source.encode(), pickle.dumps(bindings), timeout=timeout))

    def nodes(self) -> set[str]:
        """The visible nodes that it is connected to."""
        return set(self.eval("node.nodes()"))

    def ping(self, node: str) -> bool:
        return bool(self.eval("await node.ping(PINGED)", PINGED=node))

    def join(self, group: Term) -> Pid:
        """Joins the evaluating process to a group of ``pg``; gives its pid."""
        pid = self.eval("node.pg.join(JOINED, me.pid) or me.pid", JOINED=group)
        assert isinstance(pid, Pid)
        return pid

    def members(self, group: Term) -> list[Pid]:
        """The members of a group of ``pg``, as a sorted list."""
        return sorted_pids(self.eval("node.pg.get_members(LISTED)", LISTED=group))

    def halt(self) -> None:
        """Stop in order, as at the end of a program."""
        self.write("")
        self.wait()


def python_environment(epmd_port: int, home: Path) -> dict[str, str]:
    """The environment of an isolated erlmesh process: its own EPMD port, home and state folder."""
    return {
        "ERL_EPMD_PORT": str(epmd_port),
        "HOME": str(home),
        "ERLMESH_STATE": str(home / "state"),
        "ERLMESH_PURE": os.environ.get("ERLMESH_PURE", ""),  # the build of the run
        "PYTHONPATH": str(SRC),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }
