"""Who dials, who wins when both dial, what waits for a connection, silence, and reconnection."""

from simulation.mutants.mutation import Mutant

CONNECTION_TABLE = "erlmesh.core.connection_table:ConnectionTable."
RECONNECT_POLICY = "erlmesh.core.reconnect_policy:ReconnectPolicy."
PENDING = "erlmesh.runtime.pending_signals:PendingTable."
CONNECTIONS = "erlmesh.runtime.connections:Connections."
CHANNEL = "erlmesh.proto.channel:Channel."

MUTANTS = [
    Mutant(
        CONNECTION_TABLE + "incoming",
        "of two who dial each other both go on",
        "if self._local_name > name:",
        "if False:",
    ),
    Mutant(
        CONNECTION_TABLE + "incoming",
        "of two who dial each other neither goes on",
        "if self._local_name > name:",
        "if True:",
    ),
    Mutant(
        CONNECTION_TABLE + "incoming",
        "who gives way goes on dialling",
        "return Status.OK_SIMULTANEOUS, rival",
        "return Status.OK_SIMULTANEOUS, None",
    ),
    Mutant(
        CONNECTION_TABLE + "incoming",
        "a peer that calls again is refused as long as its old connection seems to live",
        ("peer.incoming = connection\n            return Status.ALIVE, None"),
        "return None, None",
    ),
    Mutant(
        CONNECTION_TABLE + "incoming",
        "the call that was expected is not what was waited for",
        "peer.incoming, peer.awaiting_incoming = connection, None",
        "peer.incoming = connection",
    ),
    Mutant(
        CONNECTION_TABLE + "keep_attempt",
        "a dead connection is kept, and the new one dropped",
        "return peer is not None and peer.outgoing == connection and peer.established is None",
        "return False",
    ),
    Mutant(
        CONNECTION_TABLE + "nok_received",
        "who is told to wait does not wait",
        "peer.outgoing, peer.awaiting_incoming = None, connection",
        "peer.outgoing = None",
    ),
    Mutant(
        CONNECTION_TABLE + "expire",
        "who waits for a call waits for ever",
        "peer.awaiting_incoming = None",
        "return False",
    ),
    Mutant(
        CONNECTION_TABLE + "established",
        "an old connection stays beside the new one",
        "return True, replaced",
        "return True, None",
    ),
    Mutant(
        CONNECTION_TABLE + "established",
        "a connection that was given up counts",
        "if peer is None or connection not in (peer.outgoing, peer.incoming):",
        "if peer is None:",
    ),
    Mutant(
        CONNECTION_TABLE + "handshake_failed",
        "a failed call is under way for ever",
        "peer.outgoing = None",
        "pass",
    ),
    Mutant(
        CONNECTIONS + "connection_ready",
        "what waited for the connection is lost",
        "protocol.send(signal)",
        "pass",
    ),
    Mutant(
        CONNECTIONS + "connection_ready",
        "what waited for the connection comes last first",
        "for signal in pending.signals:",
        "for signal in reversed(pending.signals):",
    ),
    Mutant(
        CONNECTIONS + "connection_ready",
        "who hears that a node is up speaks before what has waited",
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
        "the end of a connection is no end of links and monitors",
        "self._router.termination.connection_lost(atom)",
        "pass",
    ),
    Mutant(
        CONNECTIONS + "_tear_down",
        "nobody is told that a node is down",
        "self._on_down(connection, reason, cause)",
        "pass",
    ),
    Mutant(
        PENDING + "fail",
        "who waits for a connection is not told that there will be none",
        "pending.resolve(False)",
        "pass",
    ),
    Mutant(
        PENDING + "fail",
        "signals that cannot be sent vanish",
        "self._undeliverable(signal, node)",
        "pass",
    ),
    Mutant(
        CONNECTIONS + "_abort",
        "the attempt that gives way is not ended",
        "connection.protocol is not None:",
        "False:",
    ),
    Mutant(
        CONNECTIONS + "handshake_completed",
        "the life of a peer is not noted",
        "event.flags, event.creation, now",
        "event.flags, 4, now",
    ),
    Mutant(
        CHANNEL + "handle_timeout",
        "nobody ticks",
        "if not self._queue:\n                self._tick()",
        "pass",
    ),
    Mutant(
        CHANNEL + "handle_timeout",
        "a silent peer is waited for, for ever",
        "if now >= self._idle_deadline():",
        "if False:",
    ),
    Mutant(
        CHANNEL + "_idle_deadline",
        "a silent peer is waited for twice as long",
        "self._last_received_at + self.net_ticktime",
        "self._last_received_at + 2 * self.net_ticktime",
    ),
    Mutant(
        CHANNEL + "_woke_late",
        "who stood still itself gives its peers no time to speak",
        "return now >= due + self._interval and self._grace_until <= due",
        "return False",
    ),
    Mutant(
        RECONNECT_POLICY + "disconnected",
        "a lost peer is not dialled again",
        "self._schedule(name, peer, now)",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "_retry_unreachable",
        "a peer is dialled again once only",
        "self._schedule(name, peer, now)",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "begin_attempts",
        "a peer that is being dialled is dialled at once again",
        "peer.dial_at = math.inf",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "suppress",
        "who is to be left alone is dialled",
        "peer.state, peer.dial_at = PeerState.SUPPRESSED, math.inf",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "request",
        "who is wanted after all stays left alone",
        "self._peers[name].state = PeerState.CONNECTED",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "disconnected",
        "who was left for others is met at once in the same life",
        "peer.deferred_until = now + peer.deferral",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "_schedule",
        "who is spared no longer is dialled at the end of a long pause only",
        "if peer.is_deferred(now):",
        "if False:",
    ),
    Mutant(
        RECONNECT_POLICY + "_retry_deferred",
        "who is found in the life in which it was left is not dialled again",
        "self._schedule(name, peer, now)",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "peer_found",
        "of who was left for others another life is not met either",
        "refused.creation != creation",
        "False",
    ),
    Mutant(
        RECONNECT_POLICY + "begin_attempts",
        "who was left for others is never met in that life",
        "peer.refused = None",
        "pass",
    ),
    Mutant(
        RECONNECT_POLICY + "begin_attempts",
        "who was left for others is spared for ever",
        "not peer.is_deferred(now)",
        "False",
    ),
    Mutant(
        "erlmesh.runtime.reconnector:Reconnector._attempt_finished",
        "a failed attempt is taken for the last",
        "self._policy.attempt_failed(name, self._loop.time())",
        "pass",
    ),
]

EQUIVALENT = [
    Mutant(
        CONNECTION_TABLE + "keep_attempt",
        "an attempt is wanted although the peer is up",
        " and peer.established is None",
        "",
        "While an attempt of ours is `dialling` the peer is not up: dial() wants it idle, and met() and called() end "
        "the attempt before another connection comes up.",
    ),
    Mutant(
        CONNECTIONS + "handshake_completed",
        "a connection that does not count is used",
        ("self._remove(protocol)\n            return None"),
        "pass",
        "Who is given up is abandoned at once: its pump is over, and never tells that it met anybody. What counts and "
        "what does not is the table's to say nevertheless.",
    ),
]
