"""Applies the signals of peers to the tables of a session. No I/O: it sends through a function that it is given.

The session has no tasks. Its processes are mailboxes that threads read, and functions for the few servers that every
node needs. A call waits in :attr:`SyncRouter.pending` under its reference, which is the alias of its reply and the
reference of its monitor. All methods are called under the lock of the session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from erlmesh.core import gen
from erlmesh.core.exit_reasons import KILL, KILLED, NOCONNECTION, NOPROC
from erlmesh.core.identifiers import Identifiers, pid_number
from erlmesh.core.links import Links
from erlmesh.core.monitors import Monitors
from erlmesh.core.registered_names import require_registrable
from erlmesh.core.spawn_requests import cancel_signals
from erlmesh.errors import CallError
from erlmesh.proto.control import (
    Demonitor,
    Down,
    ExitLink,
    ExitSend,
    GroupLeader,
    Link,
    Monitor,
    Send,
    SendAlias,
    SendName,
    Signal,
    SpawnReply,
    SpawnRequest,
    Unlink,
    UnlinkAck,
)
from erlmesh.sync.mailbox import Mailbox
from erlmesh.sync.waiting import PendingCall
from erlmesh.terms import Atom, ImproperList, Pid, Ref, Term

__all__ = ["SyncRouter"]

DOWN: Final = Atom("DOWN")
EXIT: Final = Atom("EXIT")
PROCESS: Final = Atom("process")
NOTSUP: Final = Atom("notsup")
OK: Final = Atom("ok")
ERROR: Final = Atom("error")
IS_AUTH: Final = Atom("is_auth")
NET_KERNEL: Final = Atom("net_kernel")
YES: Final = Atom("yes")

Server = Callable[[Term], None]
"""Handles the messages to a process without a mailbox."""


class SyncRouter:
    """The processes, calls, monitors and links of one session.

    ``send(node, signal)`` sends a signal to ``node``, or drops it if the node is not connected.
    """

    def __init__(self, identifiers: Identifiers, send: Callable[[Atom, Signal], None]) -> None:
        self.identifiers = identifiers
        self.pending: dict[Ref, PendingCall] = {}
        self.monitors = Monitors(identifiers.node)
        self.links = Links(identifiers.node)
        self._send = send
        self._mailboxes: dict[int, Mailbox] = {}
        self._servers: dict[int, Server] = {}
        self._names: dict[Atom, Mailbox] = {}
        self.handlers: dict[type, Callable[[Any, Atom], None]] = {
            Send: self._on_send,
            SendName: self._on_send_name,
            SendAlias: self._on_send_alias,
            Link: self._on_link,
            Unlink: self._on_unlink,
            UnlinkAck: self._on_unlink_ack,
            ExitLink: self._on_exit_link,
            ExitSend: self._on_exit_send,
            Monitor: self._on_monitor,
            Demonitor: self._on_demonitor,
            Down: self._on_down,
            GroupLeader: self._ignore,
            SpawnRequest: self._on_spawn_request,
            SpawnReply: self._on_spawn_reply,
        }
        """By class of a signal, what applies it: ``handlers[type(signal)](signal, peer)``."""

    # Local processes

    def open_mailbox(self, name: Atom | None = None) -> Mailbox:
        """Start a process. Raises ``ValueError`` if ``name`` is taken, or is no name for a process."""
        if name is not None:
            require_registrable(name)
            if name in self._names or name is NET_KERNEL:
                raise ValueError(f"the name {name} is taken")
        mailbox = Mailbox(self.identifiers.pid(self._mailboxes))
        self._mailboxes[pid_number(mailbox.pid)] = mailbox
        if name is not None:
            self._names[name] = mailbox
        return mailbox

    def open_server(self, handle: Server) -> Pid:
        """Start a process without a mailbox: ``handle(message)`` is called with each message, under the lock."""
        pid = self.identifiers.system_pid()
        self._servers[pid_number(pid)] = handle
        return pid

    def end_process(self, mailbox: Mailbox, reason: Term) -> None:
        """The process ends with ``reason``. Its links and monitors get it. A second call has no effect."""
        if self._mailboxes.pop(pid_number(mailbox.pid), None) is None:
            return
        for name in [name for name, owner in self._names.items() if owner is mailbox]:
            del self._names[name]
        downs, demonitors = self.monitors.process_exited(mailbox.pid, reason)
        for down in downs:
            self._send_to(down.to.node, down)
        for entry, demonitor in demonitors:
            self._send_to(entry.node, demonitor)
        for exit_signal in self.links.process_exited(mailbox.pid, reason):
            self._send_to(exit_signal.to.node, exit_signal)
        mailbox.end(reason)

    def add_call(self, call: PendingCall) -> Ref:
        """Give a call its reference, under which its answer is expected."""
        ref = call.ref = self.identifiers.ref()
        self.pending[ref] = call
        return ref

    def end_all(self, reason: Term) -> None:
        """The session is closed: all processes end."""
        for mailbox in list(self._mailboxes.values()):
            self.end_process(mailbox, reason)

    # Signals of peers

    def apply(self, signal: Signal, peer: Atom) -> None:
        """Apply one signal of the node ``peer``."""
        self.handlers[type(signal)](signal, peer)

    def connection_lost(self, peer: Atom) -> None:
        """End the calls to ``peer``, and the monitors and links."""
        for call in [call for call in self.pending.values() if call.node is peer]:
            del self.pending[call.ref]
            call.down_reason = NOCONNECTION
            call.finish()
        for down in self.monitors.connection_lost(peer, NOCONNECTION):
            self._on_down(down, peer)
        for exit_signal in self.links.connection_lost(peer, NOCONNECTION):
            self._on_exit_link(exit_signal, peer)

    def _send_to(self, node: Atom, signal: Signal) -> None:
        if node is self.identifiers.node:
            self.apply(signal, node)
        else:
            self._send(node, signal)

    def _mailbox(self, pid: Pid) -> Mailbox | None:
        mailbox = self._mailboxes.get(pid_number(pid))
        return mailbox if mailbox is not None and mailbox.pid == pid else None

    # Messages

    def _on_send_alias(self, signal: SendAlias, _peer: Atom) -> None:
        call = self.pending.pop(signal.alias, None)
        if call is not None:
            message = signal.message
            call.reply = message[1] if type(message) is tuple and len(message) == 2 else message
            call.finish()

    def _on_send(self, signal: Send, peer: Atom) -> None:
        to, message = signal.to, signal.message
        if to.node is not self.identifiers.node or to.creation != self.identifiers.creation:
            return
        # A server without aliases (OTP 23, or no gen_server) replies to the pid of the caller.
        if type(message) is tuple and len(message) == 2 and self.pending:
            ref = _reference_of(message[0])
            if ref is not None and ref in self.pending:
                self._on_send_alias(SendAlias(to, ref, message), peer)
                return
        server = self._servers.get(pid_number(to))
        if server is not None:
            server(message)
            return
        mailbox = self._mailbox(to)
        if mailbox is not None:
            self._deliver(mailbox, message)

    def _on_send_name(self, signal: SendName, peer: Atom) -> None:
        mailbox = self._names.get(signal.name)
        if mailbox is not None:
            self._deliver(mailbox, signal.message)
        elif signal.name is NET_KERNEL:
            self._answer_ping(signal.message, peer)

    def _answer_ping(self, message: Term, peer: Atom) -> None:
        """Answer ``net_adm:ping``, which waits without a time limit."""
        match message:
            case (gen.GEN_CALL, (Pid() as pid, tag) as caller, request):
                is_ping = isinstance(request, tuple) and len(request) == 2 and request[0] is IS_AUTH
                self._reply(pid, caller, tag, YES if is_ping else (ERROR, NOTSUP), peer)

    def _deliver(self, mailbox: Mailbox, message: Term) -> None:
        if gen.is_system_message(message):
            self._answer_system_message(mailbox, message)
        else:
            mailbox.deliver(message)

    def _answer_system_message(self, mailbox: Mailbox, message: Term) -> None:
        """Answer ``sys`` and ``gen_server:stop``, which may wait without a time limit."""
        _, caller, request = message
        pid, tag = caller
        match request:
            case (Atom("terminate"), reason):
                self._reply(pid, caller, tag, OK, pid.node)
                self.end_process(mailbox, reason)
            case _:
                self._reply(pid, caller, tag, (ERROR, (Atom("unknown_system_msg"), request)), pid.node)

    def _reply(self, sender: Pid, caller: tuple[Pid, Term], tag: Term, answer: Term, node: Atom) -> None:
        to = gen.reply_to(caller)
        message = (tag, answer)
        self._send_to(node, SendAlias(sender, to, message) if type(to) is Ref else Send(sender, caller[0], message))

    # Links and exit signals. Every process traps exits: no thread can be ended by a signal.

    def _on_link(self, signal: Link, peer: Atom) -> None:
        if self._mailbox(signal.to) is None:
            self._send_to(peer, ExitLink(signal.to, signal.sender, NOPROC))
        else:
            self.links.link_received(signal)

    def _on_unlink(self, signal: Unlink, _peer: Atom) -> None:
        for ack in self.links.unlink_received(signal):
            self._send_to(ack.to.node, ack)

    def _on_unlink_ack(self, signal: UnlinkAck, _peer: Atom) -> None:
        self.links.unlink_ack_received(signal)

    def _on_exit_link(self, signal: ExitLink, _peer: Atom) -> None:
        mailbox = self._mailbox(signal.to)
        if mailbox is not None and self.links.exit_received(signal.to, signal.sender):
            mailbox.deliver((EXIT, signal.sender, signal.reason))

    def _on_exit_send(self, signal: ExitSend, _peer: Atom) -> None:
        mailbox = self._mailbox(signal.to)
        if mailbox is None:
            return
        if signal.reason is KILL:
            self.end_process(mailbox, KILLED)
        else:
            mailbox.deliver((EXIT, signal.sender, signal.reason))

    # Monitors

    def _on_monitor(self, signal: Monitor, peer: Atom) -> None:
        target = signal.target
        if isinstance(target, Pid):
            mailbox = self._mailbox(target)
            if mailbox is None and pid_number(target) in self._servers:
                return  # it lives as long as the connection
        else:
            mailbox = self._names.get(target)
            if mailbox is None and target is NET_KERNEL:
                return
        if mailbox is None:
            self._send_to(peer, Down(target, signal.sender, signal.ref, NOPROC))
        else:
            self.monitors.monitor_received(mailbox.pid, signal)

    def _on_demonitor(self, signal: Demonitor, _peer: Atom) -> None:
        self.monitors.demonitor_received(signal.ref, signal.sender)

    def _on_down(self, signal: Down, peer: Atom) -> None:
        call = self.pending.get(signal.ref)
        if call is not None:
            if call.node is peer:
                del self.pending[signal.ref]
                call.down_reason = signal.reason
                call.finish()
            return
        entry = self.monitors.down_received(signal.ref, peer)
        mailbox = None if entry is None else self._mailbox(entry.origin)
        if entry is not None and mailbox is not None:
            mailbox.deliver((DOWN, signal.ref, PROCESS, entry.down_object(), signal.reason))

    # Processes that this session starts on other nodes

    def _on_spawn_reply(self, signal: SpawnReply, peer: Atom) -> None:
        """The process that runs a function has started, or its node refuses to start it."""
        call, child = self.pending.get(signal.ref), signal.result
        if call is not None and call.node is peer:
            if isinstance(child, Pid):
                call.target = child
            else:
                del self.pending[signal.ref]
                call.error = CallError(f"{peer.name} refused to start the process: {child}")
                call.finish()
        elif isinstance(child, Pid):  # the caller has stopped waiting
            for cancel in cancel_signals(signal, child):
                self._send_to(peer, cancel)

    def _on_spawn_request(self, signal: SpawnRequest, peer: Atom) -> None:
        self._send_to(peer, SpawnReply(signal.ref, signal.sender, 0, NOTSUP))

    def _ignore(self, _signal: GroupLeader, _peer: Atom) -> None:
        """A process of a session has no group leader."""


def _reference_of(tag: Term) -> Ref | None:
    """Return the reference in the tag of a reply: ``Ref`` or ``[alias | Ref]``."""
    if type(tag) is ImproperList:
        tag = tag.tail
    return tag if type(tag) is Ref else None
