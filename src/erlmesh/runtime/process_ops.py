"""What a local process asks of its node: :class:`~erlmesh.runtime.process.ProcessOps` on top of a router."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from types import ModuleType
from typing import Any, Protocol

from erlmesh.core.gen import is_library_request
from erlmesh.runtime.mailbox import Mailbox
from erlmesh.runtime.process import MFA, Body, Destination, LocalProcess
from erlmesh.runtime.router import Router
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["NodeProcessOps", "SpawnFunction"]


class SpawnFunction(Protocol):
    def __call__(self, body: Body, arguments: tuple[Any, ...], name: Atom | str | None) -> LocalProcess: ...


class _Nodes(Protocol):
    def __call__(self, *, hidden: bool = False) -> list[str]: ...


class NodeProcessOps:
    """One object serves all processes of a node. ``group_leader()`` is the default for processes spawned remotely."""

    def __init__(
        self, router: Router, rng: Random, *, spawn: SpawnFunction, nodes: _Nodes, group_leader: Callable[[], Pid]
    ) -> None:
        self.signals = router.signal_sender
        self.atom = router.atom
        self.random = rng
        self.nodes = nodes
        self.alias = router.registry.alias
        self.unalias = router.registry.unalias
        self.register = router.registry.register
        self.deliver = router.delivery.deliver
        self.deliver_first = router.delivery.deliver_first
        self.terminate = router.termination.terminate
        self.make_ref = router.identifiers.ref
        self.wakeups = router.wakeups
        self.deadlines = router.deadlines
        self.call = router.gen_calls.call
        self.mailbox_grown = self._mailbox_grown  # one object for all mailboxes
        self._router = router
        self._spawn = spawn
        self._group_leader = group_leader

    @property
    def message_peer(self) -> Atom | None:
        return self._router.delivery.message_peer

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def monitors_with(self, ref: Ref) -> bool:
        return self._router.monitors.has_target(ref)

    def on_demonitor(self, ref: Ref, callback: Callable[[], object] | None) -> None:
        callbacks = self._router.state.demonitor_callbacks
        if callback is None:
            callbacks.pop(ref, None)
        else:
            callbacks[ref] = callback

    # Most nodes never get a special message, so the modules that answer them are imported for the first one.

    def system_message(self, process: LocalProcess, message: Term) -> None:
        _system_messages().answer_system_message(process, message)

    def system_message_for_handler(self, process: LocalProcess, message: Term) -> list[tuple[Term, Atom | None]]:
        released: list[tuple[Term, Atom | None]] = _system_messages().answer_for_handler(process, message)
        return released

    def special_message_arrived(self, process: LocalProcess) -> None:
        limit = process._mailbox.call_limit
        if limit is not None and len(process._mailbox) > limit:
            _system_messages().refuse_newest_call(process)
        if process._never_received and not process.handles_system_messages:
            _system_messages().answer_now(process)
        if process.alive and process._mailbox and not process.handles_library_requests:
            _library_requests().request_arrived(process)

    def special_message_taken(self, process: LocalProcess, message: Term) -> None:
        if process._mailbox.held:
            _system_messages().message_observed(process, message)
        if is_library_request(message) and not process.handles_library_requests:
            _library_requests().request_taken(process, message)

    def receives_again(self, process: LocalProcess, match: Callable[[Term], bool] | None) -> None:
        if not process.handles_library_requests:
            _library_requests().settle(process, match)

    def refuse_overdue(self, process: LocalProcess) -> None:
        _library_requests().refuse_overdue(process)

    def request_for_handler(self, process: LocalProcess, message: Term) -> None:
        _library_requests().handle_request(process, message)

    def unhandled(self, process: LocalProcess, message: Term) -> None:
        _system_messages().unhandled(process, message)

    def _mailbox_grown(self, mailbox: Mailbox, count: int) -> None:
        # Later: the end of a process runs code of others, and this is in the middle of a read.
        asyncio.get_running_loop().call_soon(_large_mailboxes().mailbox_grown, self._router, mailbox, count)

    def spawn(self, parent: LocalProcess, body: Body, arguments: tuple[Any, ...], name: Atom | str | None) -> Pid:
        child = self._spawn(body, arguments, name)
        child.group_leader = parent.group_leader
        return child.pid

    def send_traced(self, process: LocalProcess, to: Destination, message: Term) -> bool:
        """Send a cast with the context of the current span. False if it carries none, and has not been sent."""
        observer = self._router.state.counters.calls
        return observer is not None and self._router.signal_sender.send_traced(process, to, message, observer)

    async def spawn_remote(self, parent: LocalProcess, node: Atom, mfa: MFA, options: list[Atom]) -> tuple[Pid, Ref]:
        leader = parent.group_leader or self._group_leader()
        client, observer = self._router.spawn_client, self._router.state.counters.calls
        tracing = None if observer is None else observer.outgoing("spawn", node, mfa)
        if tracing is None:
            return await client.spawn(parent, node, mfa, leader, options)
        with tracing as traced:
            return await client.spawn(parent, node, mfa, leader, options, token=traced.token_for(node, None))


def _large_mailboxes() -> ModuleType:
    from erlmesh.runtime import large_mailboxes  # noqa: PLC0415

    return large_mailboxes


def _system_messages() -> ModuleType:
    from erlmesh.runtime import system_messages  # noqa: PLC0415

    return system_messages


def _library_requests() -> ModuleType:
    from erlmesh.runtime import library_requests  # noqa: PLC0415

    return library_requests
