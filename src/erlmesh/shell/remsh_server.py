"""Remote shell sessions: a client on another node sends lines, this node runs them and sends the output back.

The process registered as ``shell`` opens sessions. Each session is a process. Session and client monitor each other::

    {open, Client}              →   {opened, Session, Prompt}      to and from ``shell``
    {run, Text}                 →   {out, Text} … {err, Text} … {done, Prompt} or {exited, Code}
    {complete, Tag, Text}       →   {completed, Tag, [{Text, ReplaceLength, Display}]}
    interrupt                   →                                  stops the running line
    close                       →                                  stops everything and ends the session

Every node with the cookie can then run any code here, as on a BEAM. Therefore a node must enable it explicitly.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import TYPE_CHECKING, Final, TextIO, cast

from erlmesh.errors import EncodeError
from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.shell.session import Session
from erlmesh.terms import Atom, Pid, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.node import Node, Process

__all__ = ["SHELL", "RemshTag", "start_remsh_server"]

log = event_log("erlmesh.shell")
_peer_log = PeerLog(log)

SHELL: Final = Atom("shell")


class RemshTag:
    """The atoms that tag the messages of the protocol above."""

    OPEN: Final = Atom("open")
    OPENED: Final = Atom("opened")
    RUN: Final = Atom("run")
    OUT: Final = Atom("out")
    ERR: Final = Atom("err")
    DONE: Final = Atom("done")
    EXITED: Final = Atom("exited")
    COMPLETE: Final = Atom("complete")
    COMPLETED: Final = Atom("completed")
    INTERRUPT: Final = Atom("interrupt")
    CLOSE: Final = Atom("close")
    DOWN: Final = Atom("DOWN")


def start_remsh_server(node: Node) -> None:
    """Let every node that can connect to ``node`` open a shell on it."""

    def receive(message: Term) -> None:
        match message:
            case (RemshTag.OPEN, Pid() as client):
                log.warning("remsh_opened", "%s opens a remote shell", ForeignText(client.node), peer=client.node)
                node.spawn(_serve, client)
            case _:
                _peer_log.debug("message_ignored", "unexpected message ignored: %s", ForeignText(message))

    node.spawn_handler(receive, name=SHELL)


async def _serve(me: Process, client: Pid) -> None:
    """Run one session until its client closes it, exits or disconnects."""
    monitor_ref = me.monitor(client)
    out, err = (cast("TextIO", _Stream(me, client, tag)) for tag in (RemshTag.OUT, RemshTag.ERR))
    session = Session(me.node, out=out, err=err, remote=True)
    tasks: set[asyncio.Task[None]] = set()
    try:
        await session.start()
        me.send(client, (RemshTag.OPENED, me.pid, session.prompt))
        async for message in me:
            match message:
                case (RemshTag.RUN, bytes() as text):
                    work = _run(me, client, session, text.decode(errors="replace"))
                case (RemshTag.COMPLETE, tag, bytes() as text):
                    work = _complete(me, client, session, tag, text.decode(errors="replace"))
                case RemshTag.INTERRUPT:
                    session.interrupt()
                    continue
                case RemshTag.CLOSE:
                    return
                case (RemshTag.DOWN, ref, *_) if ref == monitor_ref:
                    return
                case _:
                    continue
            task = asyncio.get_running_loop().create_task(work)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        for task in tasks:
            task.cancel()
        session.terminate()


async def _run(me: Process, client: Pid, session: Session, text: str) -> None:
    await session.run(text)
    me.send(
        client, (RemshTag.DONE, session.prompt) if session.exit_code is None else (RemshTag.EXITED, session.exit_code)
    )


async def _complete(me: Process, client: Pid, session: Session, tag: Term, text: str) -> None:
    found = await session.completions(text)
    me.send(client, (RemshTag.COMPLETED, tag, [(each.text, each.replace_length, each.display) for each in found]))


class _Stream(io.TextIOBase):
    """A text stream to the client. It sends the buffered text whenever a line end is written."""

    def __init__(self, me: Process, client: Pid, tag: Atom) -> None:
        self._me = me
        self._client = client
        self._tag = tag
        self._text = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._text += text
        if "\n" in text:
            self.flush()
        return len(text)

    def flush(self) -> None:
        text, self._text = self._text, ""
        if text:
            with contextlib.suppress(EncodeError):  # the text is too long for one message
                self._me.send(self._client, (self._tag, text.encode(errors="replace")))
