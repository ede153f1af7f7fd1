"""Mutants of connecting, simultaneous connects, queued signals, tick timeouts and reconnection."""

from simulation.mutants.mutation import Mutant

CONNECTION_TABLE = "erlmesh.core.connection_table:ConnectionTable."
RECONNECT_POLICY = "erlmesh.core.reconnect_policy:ReconnectPolicy."
PENDING = "erlmesh.runtime.pending_signals:PendingTable."
CONNECTIONS = "erlmesh.runtime.connections:Connections."
CHANNEL = "erlmesh.proto.channel:Channel."

MUTANTS = [
    Mutant(
        CONNECTION_TABLE + "incoming",
        "both nodes win a simultaneous connect",
        " and self._local_name > name:",
        " and False:",
    ),
    Mutant(
        CONNECTION_TABLE + "incoming",
        "no node wins a simultaneous connect",
        " and self._local_name > name:",
        ":",
    ),
    Mutant(
        CONNECTION_TABLE + "established",
        "the node that loses a simultaneous connect continues its own attempt",
        "outdated.append(peer.outgoing)",
        "pass",
    ),
    Mutant(
        CONNECTION_TABLE + "incoming",
        "a restarted peer is refused while its old connection looks alive",
        "return Status.ALIVE",
        "return Status.NOK",
    ),
    Mutant(
        CONNECTION_TABLE + "established",
        "an expected incoming connection does not complete the attempt",
        "peer.awaiting_incoming = peer.deferred = None",
        "peer.deferred = None",
    ),
    Mutant(
        CONNECTION_TABLE + "keep_attempt",
        "a dead connection is kept and the new one is dropped",
        "return peer is not None and peer.outgoing == connection and peer.established is None",
        "return False",
    ),
    Mutant(
        CONNECTION_TABLE + "keep_attempt",
        "an attempt is kept although the peer is connected",
        " and peer.established is None",
        "",
    ),
    Mutant(
        CONNECTION_TABLE + "nok_received",
        "an initiator that gets nok does not wait for the incoming connection",
        "peer.awaiting_incoming = connection",
        "pass",
    ),
    Mutant(
        CONNECTION_TABLE + "expire",
        "the wait for an incoming connection never ends",
        "peer.awaiting_incoming = None",
        "return False",
    ),
    Mutant(
        CONNECTION_TABLE + "established",
        "the old connection stays open beside the new one",
        "return True, replaced, outdated",
        "return True, None, outdated",
    ),
    Mutant(
        CONNECTION_TABLE + "established",
        "an abandoned connection counts as established",
        "if peer is None or (connection != peer.outgoing and connection not in peer.candidates):",
        "if peer is None:",
    ),
    Mutant(
        CONNECTION_TABLE + "dial",
        "who says a name keeps us from dialling the node",
        "peer.deferred = connection\n            return Dial.LATER",
        "return Dial.NOT",
    ),
    Mutant(
        CONNECTION_TABLE + "incoming",
        "who says a name first keeps the node out",
        "if peer.established is None and peer.outgoing is not None and self._local_name > name:",
        "if peer.established is None and (peer.outgoing or peer.candidates) and self._local_name > name:",
    ),
    Mutant(
        CONNECTION_TABLE + "handshake_failed",
        "a failed attempt stays pending forever",
        "if peer.outgoing == connection:",
        "if False:",
    ),
    Mutant(
        CONNECTIONS + "connection_ready",
        "signals queued for a connection are lost",
        "protocol.send(signal)",
        "pass",
    ),
    Mutant(
        CONNECTIONS + "connection_ready",
        "signals queued for a connection are sent in reverse order",
        "for signal in pending.signals:",
        "for signal in reversed(pending.signals):",
    ),
    Mutant(
        CONNECTIONS + "connection_ready",
        "nodeup handlers send before the queued signals are sent",
        (
            "        for signal in pending.signals:\n"
            "            protocol.send(signal)\n"
            "        self._on_up(name, connection.hidden)\n"
        ),
        (
            "        self._on_up(name, connection.hidden)\n"
            "        for signal in pending.signals:\n"
            "            protocol.send(signal)\n"
        ),
    ),
    Mutant(
        CONNECTIONS + "_tear_down",
        "a lost connection breaks no links and monitors",
        "self._router.termination.connection_lost(atom, partial(self._on_down, connection, reason, cause))",
        "self._on_down(connection, reason, cause)",
    ),
    Mutant(
        CONNECTIONS + "_tear_down",
        "no nodedown is sent",
        "connection_lost(atom, partial(self._on_down, connection, reason, cause))",
        "connection_lost(atom)",
    ),
    Mutant(
        CONNECTIONS + "handshake_completed",
        "a node connects again before the links of its last connection have ended",
        "self._router.termination.finish_lost(Atom(event.name))",
        "pass",
    ),
    Mutant(
        PENDING + "fail",
        "callers that wait for a connection are not called when it fails",
        "pending.resolve(False)",
        "pass",
    ),
    Mutant(
        PENDING + "fail",
        "undeliverable signals are dropped silently",
        "self._undeliverable(signal, node)",
        "pass",
    ),
    Mutant(
        CONNECTIONS + "_abort",
        "the losing attempt of a simultaneous connect is not aborted",
        "connection.protocol is not None:",
        "False:",
    ),
    Mutant(
        CONNECTIONS + "handshake_completed",
        "the creation of a peer is not recorded",
        "event.flags, event.creation, now",
        "event.flags, 4, now",
    ),
    Mutant(
        CHANNEL + "handle_timeout",
        "no ticks are sent",
        "if not self.wire.queued:\n                self._tick()",
        "pass",
    ),
    Mutant(
        CHANNEL + "handle_timeout",
        "a silent peer never times out",
        "if now >= self._idle_deadline():",
        "if False:",
    ),
    Mutant(
        CHANNEL + "_idle_deadline",
        "a silent peer times out after twice the time",
        "self._last_received_at + self.net_ticktime",
        "self._last_received_at + 2 * self.net_ticktime",
    ),
    Mutant(
        CHANNEL + "_woke_late",
        "a node that was blocked grants its peers no extra time",
        "return now >= due + self._interval and self._grace_until <= due",
        "return False",
    ),
    Mutant(
        RECONNECT_POLICY + "disconnected",
        "a lost peer is not reconnected",
        "self._schedule(name, peer, now)",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "_retry_unreachable",
        "only one reconnect attempt is made",
        "self._schedule(name, peer, now)",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "begin_attempts",
        "a second attempt starts while the first is pending",
        "peer.dial_at = math.inf",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "suppress",
        "a suppressed peer is reconnected",
        "peer.state, peer.dial_at = PeerState.SUPPRESSED, math.inf",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "request",
        "a peer that is requested again stays suppressed",
        "self._peers[name].state = PeerState.CONNECTED",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "disconnected",
        "a peer of an overlap disconnect is reconnected at once in the same incarnation",
        "peer.deferred_until = now + peer.deferral",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "_schedule",
        "a deferred peer is reconnected only after a long backoff",
        "if peer.is_deferred(now):",
        "if False:",
    ),
    Mutant(
        RECONNECT_POLICY + "_retry_deferred",
        "a peer found in the same incarnation is not reconnected",
        "self._schedule(name, peer, now)",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "peer_found",
        "a new incarnation of an overlap-disconnected peer is refused",
        "refused.creation != creation",
        "False",
    ),
    Mutant(
        RECONNECT_POLICY + "begin_attempts",
        "an overlap-disconnected incarnation is refused forever",
        "peer.refused = None",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "begin_attempts",
        "the deferral of an overlap-disconnected peer never ends",
        "not peer.is_deferred(now)",
        "False",
    ),
    Mutant(
        "erlmesh.runtime.reconnector:Reconnector._attempt_finished",
        "a failed attempt is not followed by another",
        "self._policy.attempt_failed(name, self._loop.time())",
        "pass",
    ),
]

EQUIVALENT = [
    Mutant(
        CONNECTIONS + "handshake_completed",
        "a rejected connection is used",
        ("self._remove(protocol)\n            return None"),
        "pass",
        "A rejected connection is aborted at once. Its protocol never reports a completed handshake. The table still "
        "decides which connection counts.",
    ),
]
