"""The callers to which a server has promised a later reply. A server of a node that stops ends when none waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from erlmesh.core.gen import reply_to
from erlmesh.node import Process
from erlmesh.terms import Pid, Ref, Term

__all__ = ["OwedReplies"]


class OwedReplies:
    """The callers of one server, by the reference of their call.

    ``on_settled()`` is called when the last caller has its reply or has given up.
    """

    def __init__(self, me: Process, on_settled: Callable[[], None]) -> None:
        self._me = me
        self._on_settled = on_settled
        self._refs: set[Ref] = set()

    def __bool__(self) -> bool:
        return bool(self._refs)

    def promised(self, caller: tuple[Pid, Term]) -> None:
        """The server replies to ``caller`` later."""
        ref = _reference_of(caller)
        if type(ref) is Ref and self._me._ops.monitors_with(ref):
            self._refs.add(ref)
            self._me._ops.on_demonitor(ref, partial(self._settled, ref))

    def replied(self, caller: tuple[Pid, Term]) -> None:
        """The server has replied to ``caller``."""
        ref = _reference_of(caller)
        if type(ref) is Ref and ref in self._refs:
            self._me._ops.on_demonitor(ref, None)
            self._settled(ref)

    def close(self) -> None:
        """The server has ended."""
        for ref in self._refs:
            self._me._ops.on_demonitor(ref, None)
        self._refs.clear()

    def _settled(self, ref: Ref) -> None:
        self._refs.discard(ref)
        if not self._refs:
            self._on_settled()


def _reference_of(caller: tuple[Pid, Term]) -> Term:
    """Return the reference of the caller's monitor: its alias. In OTP 23 and before it is the tag itself."""
    target = reply_to(caller)
    return target if type(target) is Ref else caller[1]
