"""Every metric: its name, kind, labels and meaning.

Names follow Prometheus' conventions: base units (seconds, bytes), and ``_total`` for counters. Each series has the
label ``node`` first. The values of the other labels come from fixed lists, or their number is bounded.
"""

from __future__ import annotations

from typing import Final, Literal

from erlmesh.records import record

__all__ = ["DURATION_BUCKETS", "LAG_BUCKETS", "METRICS", "Metric"]

DURATION_BUCKETS: Final = (0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the durations of calls, in seconds."""
LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the lag of the event loop, in seconds."""


@record(frozen=True)
class Metric:
    name: str
    """Without the ``_total`` of a counter."""
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    """Beside ``node``."""
    text: str
    """What the value says, in one sentence or two."""
    is_largest: bool = False
    """Several values under the same labels give the largest one. Otherwise they give their sum."""

    @property
    def series(self) -> str:
        """The name as it stands in queries, without the suffixes of a histogram."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


_PEER = ("peer",)

METRICS: Final = (
    # The node
    Metric("erlmesh_node_up", "gauge", (), "1 while the node runs, 0 when it stops or has stopped."),
    Metric(
        "erlmesh_build_info",
        "gauge",
        ("version", "python", "build", "otp"),
        "Always 1. The labels are the versions of erlmesh and Python, the build (native or pure), and the release of "
        "OTP whose capabilities the node has.",
    ),
    Metric("erlmesh_node_start_time_seconds", "gauge", (), "When the node started, in Unix time."),
    Metric(
        "erlmesh_metrics_age_seconds",
        "gauge",
        (),
        "The age of the values. It is more than 0 while the event loop is blocked: then the last values are repeated.",
    ),
    # Connections
    Metric(
        "erlmesh_connections",
        "gauge",
        ("state",),
        "Connections by state: up (with visible nodes), hidden (up, one side is hidden), dialling, dial_queued (waits "
        "for other dials to end), accepting (handshakes that others have started), reconnecting (lost peers that are "
        "dialled again and again).",
    ),
    Metric(
        "erlmesh_connections_opened",
        "counter",
        ("direction",),
        "Connections that were established: outgoing, incoming.",
    ),
    Metric(
        "erlmesh_disconnects",
        "counter",
        ("reason",),
        "Connections that ended, by the reason of nodedown: connection_closed, net_tick_timeout, disconnect (on "
        "purpose), killed (the peer broke the protocol), send_queue_full and others.",
    ),
    Metric(
        "erlmesh_connect_failures",
        "counter",
        ("reason",),
        "Attempts of this node to connect that failed, by the kind of error, for example connect_error, "
        "handshake_timeout or handshake_refused.",
    ),
    Metric(
        "erlmesh_refused_connections",
        "counter",
        ("reason",),
        "Connections of others that did not complete their handshake, by the kind of error: wrong_cookie, "
        "too_many_guesses, handshake_refused, connect_error (closed early) and others.",
    ),
    Metric("erlmesh_reconnect_attempts", "counter", (), "Attempts to connect again to lost peers."),
    Metric("erlmesh_reconnects", "counter", (), "Lost peers that are connected again."),
    Metric("erlmesh_pending_bytes", "gauge", (), "Bytes of signals that wait for connections which are being set up."),
    # Peers
    Metric(
        "erlmesh_peer_connections",
        "gauge",
        _PEER,
        "Connections with the peer: 1, or 0 while this node tries to reconnect to it. other and hidden may have more.",
    ),
    Metric("erlmesh_peer_received_bytes", "counter", _PEER, "Bytes received from the peer, with all overhead."),
    Metric("erlmesh_peer_sent_bytes", "counter", _PEER, "Bytes written to the peer's socket, with all overhead."),
    Metric("erlmesh_peer_received_signals", "counter", _PEER, "Messages and other signals received from the peer."),
    Metric("erlmesh_peer_sent_signals", "counter", _PEER, "Messages and other signals queued for the peer."),
    Metric("erlmesh_peer_received_ticks", "counter", _PEER, "Ticks received from the peer."),
    Metric("erlmesh_peer_sent_ticks", "counter", _PEER, "Ticks sent to the peer."),
    Metric(
        "erlmesh_peer_send_queue_bytes",
        "gauge",
        _PEER,
        "Bytes that wait for the peer to read. Senders wait from 1 MiB on. The connection ends at the option "
        "send_queue_limit.",
    ),
    Metric(
        "erlmesh_peer_receive_buffer_bytes",
        "gauge",
        _PEER,
        "Bytes of messages that have arrived from the peer in part.",
    ),
    Metric(
        "erlmesh_peer_silence_seconds",
        "gauge",
        _PEER,
        "Seconds since anything came from the peer (the age of the last tick). From half of the net tick time on, the "
        "peer is paused or cut off.",
        is_largest=True,
    ),
    Metric(
        "erlmesh_peer_loop_blocked_seconds",
        "gauge",
        _PEER,
        "Seconds for which the event loop of the peer has been blocked, as it has reported itself; 0 if it is not.",
        is_largest=True,
    ),
    # The event loop
    Metric(
        "erlmesh_event_loop_lag_seconds",
        "histogram",
        (),
        "How late the event loop runs a timer. A sample is taken every half second. A block of the loop is one sample.",
    ),
    Metric(
        "erlmesh_event_loop_blocked_seconds",
        "gauge",
        (),
        "For how long the event loop has been blocked now; 0 if it responds. It is current also while the loop is "
        "blocked.",
    ),
    Metric("erlmesh_event_loop_callbacks", "gauge", (), "Callbacks that wait for the event loop. Not with uvloop."),
    # Processes
    Metric("erlmesh_processes", "gauge", (), "Processes of the node that are alive."),
    Metric("erlmesh_registered_names", "gauge", (), "Registered names of local processes."),
    Metric("erlmesh_mailbox_messages", "gauge", (), "Messages that wait in all mailboxes."),
    Metric("erlmesh_largest_mailbox_messages", "gauge", (), "Messages that wait in the fullest mailbox."),
    Metric(
        "erlmesh_dropped_messages",
        "counter",
        ("reason",),
        "Messages that this node has dropped: no_connection (their node could not be reached), connect_queue_full (too "
        "much waited for a connection), mailbox_limit (their process was killed at its limit), no_process (their "
        "process has ended, or no process has the name), "
        "subscription_full (a subscriber of Phoenix.PubSub was too slow). Replies that come too late are not counted.",
    ),
    # Calls
    Metric(
        "erlmesh_call_duration_seconds",
        "histogram",
        ("kind", "outcome"),
        "How long calls of this node took. kind: call (gen_server:call) or rpc. outcome: ok, timeout, no_process, "
        "no_connection, exit (the other process ended), error (the function raised), cancelled.",
    ),
    Metric(
        "erlmesh_served_call_duration_seconds",
        "histogram",
        ("kind", "outcome"),
        "How long this node took for the calls that it answered. kind: call (handle_call of a GenServer) or rpc (an "
        "exposed function, with its wait for a thread). outcome: ok, later (handle_call has returned, and the reply "
        "comes later), timeout (call_timeout), overloaded, unknown_call, throw, exit, error.",
    ),
    Metric("erlmesh_function_calls_running", "gauge", (), "Exposed functions that run in threads now."),
    Metric("erlmesh_function_calls_waiting", "gauge", (), "Calls of exposed functions that wait for a thread."),
    Metric(
        "erlmesh_refused_calls", "counter", ("reason",), "Calls of exposed functions that were refused: queue_full."
    ),
    # Groups and names
    Metric("erlmesh_groups", "gauge", ("scope",), "Process groups of a pg scope that have members."),
    Metric("erlmesh_group_memberships", "gauge", ("scope",), "Members of all groups of a scope, on all nodes."),
    Metric(
        "erlmesh_group_members",
        "gauge",
        ("scope", "group"),
        "Members of a group on all nodes. The 50 largest groups of a scope have their own series. The rest is in the "
        "group other.",
    ),
    Metric("erlmesh_global_names", "gauge", (), "Names that are registered with global."),
)
