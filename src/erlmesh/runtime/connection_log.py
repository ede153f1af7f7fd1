"""What a node says of its connections: lines of the log, counters, and the last error of each peer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from erlmesh.core.node_counters import word_of
from erlmesh.errors import HandshakeTimeout
from erlmesh.net.dist_protocol import SEND_QUEUE_FULL, UNFINISHED_FULL
from erlmesh.net.event_log import event_log
from erlmesh.proto.handshake import InitiatorClosed, SimultaneousConnect, TooManyGuesses
from erlmesh.runtime.last_errors import LastErrors
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.terms.foreign_text import ForeignText, printable_sentence

if TYPE_CHECKING:
    from erlmesh.core.node_counters import NodeCounters
    from erlmesh.errors import ErlmeshError
    from erlmesh.net.dist_protocol import DistProtocol
    from erlmesh.runtime.connection import Connection

__all__ = ["ConnectionLog"]

log = event_log("erlmesh")

_LOG_LEVELS: Final[dict[type[ErlmeshError], int]] = {
    SimultaneousConnect: logging.DEBUG,
    InitiatorClosed: logging.INFO,
    TooManyGuesses: logging.DEBUG,  # the wrong cookies themselves are warnings
}
"""Log levels of incoming handshakes that failed for a harmless reason. All others are warnings."""


class ConnectionLog:
    """The log of the connections of the node ``local_name``. It decides nothing: each method is told what happened."""

    def __init__(self, local_name: str, counters: NodeCounters) -> None:
        self._local_name = local_name
        self._counters = counters
        self._peer_log = PeerLog(log)
        self._connect_errors = LastErrors()
        self._disconnect_reasons = LastErrors()

    # The last error of a peer

    def last_disconnect_reason(self, name: str) -> str | None:
        """Return why the last connection to ``name`` ended, in OTP's word. Set before any process learns of it."""
        return self._disconnect_reasons.text(name)

    def last_connect_error(self, name: str) -> str | None:
        """Return why the last attempt to connect to ``name`` failed, as a text for the user."""
        return self._connect_errors.text(name)

    def connect_timed_out(self, name: str) -> bool:
        """Return whether the last attempt to connect to ``name`` failed with HandshakeTimeout."""
        return self._connect_errors.kind(name) is HandshakeTimeout

    # What happened

    def connected(self, connection: Connection) -> None:
        """The handshake is complete, and signals can be sent. This sets the label of the connection."""
        name = connection.name
        self._connect_errors.forget(name)
        # A hidden node that connected to us may be a short-lived tool, so it has no time series of its own.
        is_own = connection.dialled or not connection.hidden
        connection.label = self._counters.peers.connected(name, own=is_own)
        self._counters.add("connections", "outgoing" if connection.dialled else "incoming")
        self._peer_log.write(
            logging.INFO,
            "peer_up",
            name,
            "connected with %s%s",
            ForeignText(name),
            " (hidden)" if connection.hidden else "",
            node=self._local_name,
        )

    def refused(self, connection: Connection, protocol: DistProtocol, error: ErlmeshError) -> None:
        """The handshake of an incoming connection has failed."""
        self._counters.add("refused", word_of(type(error)))
        level = _LOG_LEVELS.get(type(error), logging.WARNING)
        self._peer_log.write(
            level,
            "connection_refused",
            protocol.address_group,
            "a connection from %s failed: %s",
            protocol.peer_address,
            printable_sentence(error),
            node=self._local_name,
            peer=connection.name or None,
            reason=word_of(type(error)),
        )

    def failed(self, name: str, error: ErlmeshError) -> None:
        """This node cannot connect to ``name``."""
        self._peer_log.write(
            logging.INFO,
            "connect_failed",
            name,
            "cannot connect to %s: %s",
            ForeignText(name),
            printable_sentence(str(error)),
            node=self._local_name,
            reason=word_of(type(error)),
        )
        self._connect_errors.record(name, str(error), type(error))
        self._counters.add("failed", word_of(type(error)))

    def lost(self, name: str, reason: str, detail: str) -> None:
        """The connection to ``name`` was lost, other than by this node. :meth:`ended` follows."""
        # A limit that is reached is a fault of this program or of the peer. Other losses are events of any network.
        level = logging.WARNING if reason in (SEND_QUEUE_FULL, UNFINISHED_FULL) else logging.INFO
        self._peer_log.write(
            level,
            "peer_down",
            name,
            "lost %s: %s",
            ForeignText(name),
            printable_sentence(detail),
            node=self._local_name,
            reason=reason,
        )

    def ended(self, connection: Connection, protocol: DistProtocol, reason: str) -> None:
        """An established connection has ended, for whatever ``reason``: this is OTP's word."""
        if connection.label:
            self._counters.peers.ended(connection.label, protocol.counts())
            self._counters.add("disconnects", reason)
        self._disconnect_reasons.record(connection.name, reason)

    def messages_overflowed(self, name: str, error: str) -> None:
        """Too many bytes waited for the connection to ``name``. ``error`` says so."""
        self._connect_errors.record(name, error)

    def messages_dropped(self, number: int) -> None:
        """So many messages that waited for a connection were dropped, because too many waited."""
        self._counters.add("dropped", "connect_queue_full", number)
