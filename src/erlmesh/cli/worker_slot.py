"""The node of ``erlmesh start --workers N`` as it knows itself: its number, its name, and its supervising process.

The supervising process starts it with the same arguments and a variable ``ERLMESH_WORKER``. They share a socket::

    node ── ready ──▶ supervising process       the node is up, and its --app too if that is a serving
    node ◀── stop ── supervising process        stop in order
    node ◀── end of the socket                  the supervising process has ended: the same

It is not a signal, because some init systems send SIGTERM to all processes of a service. A second one would end the
node at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, MutableMapping
from typing import Final

from erlmesh.cli.settings import NodeSettings
from erlmesh.records import fields, record
from erlmesh.runtime.config import NodeConfig

__all__ = ["READY", "STOP", "VARIABLE", "StopWatch", "WorkerSlot", "take_worker_slot", "worker_name"]

VARIABLE: Final = "ERLMESH_WORKER"
READY: Final = b"ready\n"
STOP: Final = b"stop\n"


def worker_name(name: str, number: int) -> str:
    """Return the name of a worker: the first of ``plato@host`` is ``plato-1@host``."""
    alive, _, host = name.partition("@")
    return f"{alive}-{number}@{host}"


class StopWatch:
    """What a stop does. While the modules of the user are imported, which may take any time, it ends the program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._request_stop: Callable[[], object] | None = None

    def call(self, request_stop: Callable[[], object]) -> None:
        """From now on a stop calls ``request_stop()``, in another thread."""
        with self._lock:
            self._request_stop = request_stop

    def stop(self) -> None:
        """The supervising process says stop, or has ended."""
        with self._lock:
            if self._request_stop is None:
                os._exit(0)
        self._request_stop()


@record(frozen=True)
class WorkerSlot:
    """What the supervising process says: the worker with this number, of so many, of the node ``name``."""

    number: int
    count: int
    fd: int
    """The socket to the supervising process."""
    name: str

    def as_text(self) -> str:
        """The value of the variable."""
        return f"{self.number} {self.count} {self.fd} {self.name}"

    def settings(self, settings: NodeSettings) -> NodeSettings:
        """Return ``settings`` with the name of this worker, its port for metrics, and the map for the first one."""
        config = {each.name: getattr(settings.config, each.name) for each in fields(NodeConfig)}
        own = {each.name: getattr(settings, each.name) for each in fields(NodeSettings)}
        config["name"] = worker_name(self.name, self.number)
        if settings.metrics is not None:
            host, port = settings.metrics
            own["metrics"] = host, port + self.number - 1
        if self.number != 1:
            own["map"] = None
        return NodeSettings(**{**own, "config": NodeConfig(**config)})

    def siblings(self) -> list[str]:
        """The names of the other workers."""
        return [worker_name(self.name, number) for number in range(1, self.count + 1) if number != self.number]

    def watch(self) -> StopWatch:
        """Watch, in another thread, whether the supervising process says stop, or has ended."""
        watch = StopWatch()

        def read() -> None:
            with contextlib.suppress(OSError):
                os.read(self.fd, len(STOP))
            watch.stop()

        # A thread, because code of the user may block the event loop.
        threading.Thread(target=read, name="erlmesh worker", daemon=True).start()
        return watch

    def report_ready(self) -> None:
        """Tell the supervising process that this node is up."""
        with contextlib.suppress(OSError):  # It has ended, so this node stops.
            os.write(self.fd, READY)


def take_worker_slot(environment: MutableMapping[str, str]) -> WorkerSlot | None:
    """Remove the variable and return its value; None if this is not a worker. Its own children do not inherit it."""
    text = environment.pop(VARIABLE, None)
    if text is None:
        return None
    number, count, fd, name = text.split(" ", 3)
    return WorkerSlot(int(number), int(count), int(fd), name)
