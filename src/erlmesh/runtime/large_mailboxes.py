"""What follows when many messages wait for a process: a warning, and the end of a process that has a limit."""

from __future__ import annotations

from erlmesh.core.exit_reasons import KILLED
from erlmesh.net.event_log import event_log
from erlmesh.runtime.mailbox import Mailbox
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.router import Router

__all__ = ["mailbox_grown"]

log = event_log("erlmesh")


def mailbox_grown(router: Router, mailbox: Mailbox, count: int) -> None:
    """``count`` messages have waited in ``mailbox``. Its process may have ended since then.

    A process with more messages than its limit is terminated with the reason ``killed``.
    """
    process = next((each for each in router.registry.processes.values() if each._mailbox is mailbox), None)
    if process is None:
        return
    if mailbox.limit is None or count <= mailbox.limit:
        log.warning(
            "mailbox_large",
            "%d messages wait for process %s: it does not receive them",
            count,
            _described(process),
            pid=process.pid,
            count=count,
        )
    else:
        log.error(
            "mailbox_limit_reached",
            "process %s is killed: %d messages wait for it, and its limit is %d",
            _described(process),
            count,
            mailbox.limit,
            pid=process.pid,
            count=count,
            limit=mailbox.limit,
        )
        router.state.counters.add("dropped", "mailbox_limit", len(mailbox))
        router.termination.terminate(process, KILLED)


def _described(process: LocalProcess) -> str:
    names = ", ".join(str(name) for name in process._names)
    return f"{process.label} ({names})" if names else process.label
