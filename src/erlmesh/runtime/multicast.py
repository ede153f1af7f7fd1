"""One message to many processes. It is encoded once, without references to the atom caches of the connections."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from erlmesh.etf import EncodedTerm
from erlmesh.runtime.process import Destination, LocalProcess
from erlmesh.terms import Pid, Term

__all__ = ["RepeatSender", "send_to_each"]


class RepeatSender:
    """Sends messages of ``sender`` to other nodes, over existing connections only (``noconnect``).

    A message object that is sent several times in a row is encoded twice at most: for the first destination with the
    references of its connection, and once for all others. Make one sender for a batch of messages, because it keeps the
    last message.
    """

    def __init__(self, sender: LocalProcess) -> None:
        self._sender = sender
        self._last: Term = None
        self._encoded: EncodedTerm | None = None

    def send(self, to: Destination, message: Term) -> None:
        """Send ``message`` to a process on another node. The caller must not change it during the batch."""
        if message is not self._last:
            self._last, self._encoded = message, None
            self._sender.send(to, message, connect=False)
            return
        if self._encoded is None:
            self._encoded = EncodedTerm(message)
        encoded: Any = self._encoded  # It is not a term, but every connection can send it.
        self._sender.send(to, encoded, connect=False)


def send_to_each(sender: LocalProcess, recipients: Collection[Pid], message: Term) -> int:
    """Send ``message`` to every one of ``recipients``. Return their number.

    Raises ``EncodeError`` if ``message`` is not a term and a recipient is on another node. Then nothing is sent.
    """
    here = sender.pid.node
    # It is not a term, but every connection can send it.
    encoded: Any = EncodedTerm(message) if any(pid.node is not here for pid in recipients) else None
    for pid in recipients:
        sender.send(pid, message if pid.node is here else encoded)
    return len(recipients)
