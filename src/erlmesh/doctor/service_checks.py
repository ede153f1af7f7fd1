"""Findings about the services of a connected node: net_kernel, release, global, and scopes of pg. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from erlmesh.doctor.findings import Finding, failed, note, ok
from erlmesh.records import record
from erlmesh.terms import Atom, Term

__all__ = [
    "GlobalState",
    "check_blocked_peers",
    "check_global",
    "check_ping",
    "check_release",
    "check_scopes",
    "parse_blocked_peers",
]


@record(frozen=True)
class GlobalState:
    """The state of ``global_name_server``: its protocol version, and its known and synchronized nodes."""

    version: int
    known: Sequence[str]
    synced: Sequence[str]


def check_ping(target: str, round_trips: Sequence[float], count: int) -> Finding:
    """Check the answers of ``net_kernel`` to ``count`` pings. ``round_trips`` are seconds on the local clock."""
    if not round_trips:
        return failed(
            "ping",
            f"connected, but net_kernel of {target} does not answer",
            "The connection is up, but the processes of the node do not run: it is starting, overloaded, or stopped.",
            "Try again. If that does not help, check the load and the log of that node.",
        )
    times = [seconds * 1000 for seconds in round_trips]
    facts: dict[str, Any] = {
        "ms": {"least": round(min(times), 3), "median": round(median(times), 3), "most": round(max(times), 3)}
    }
    summary = f"net_kernel answers; the round trip takes {median(times):.1f} ms ({min(times):.1f} to {max(times):.1f})"
    if len(round_trips) < count:
        return note("ping", f"{summary}, but {count - len(round_trips)} of {count} pings were lost", **facts)
    return ok("ping", summary, **facts)


def check_release(otp_release: str | None, system_version: str | None) -> Finding:
    """Report what the node runs, from two answers of ``erlang:system_info/1``; None if it does not give one."""
    if system_version is not None and system_version.startswith("erlmesh "):
        return ok("release", f"the node is a node of Python: {system_version}", otp=None)
    if otp_release is None:
        return ok("release", "the node reports no OTP release: not a BEAM, perhaps an older erlmesh node", otp=None)
    return ok("release", f"the node is a BEAM with OTP {otp_release}", otp=otp_release)


def check_global(target: str, state: GlobalState | None, *, running: bool) -> Finding:
    """Check that ``global`` runs on the node and is synchronized with the nodes it knows."""
    if state is None and running:
        return note(
            "global",
            f"global runs on {target} but does not answer",
            "global on that node is stuck or overloaded. All nodes that register a global name or take a global lock "
            "wait for it.",
            "On that node,  process_info(whereis(global_name_server))  shows what it waits for.",
        )
    if state is None:
        return note(
            "global",
            f"{target} does not run global",
            "The node is not part of the full mesh: global does not connect it to other nodes, and it has no global "
            "names.",
        )
    facts = {"version": state.version, "known": list(state.known), "synced": list(state.synced)}
    behind = [node for node in state.known if node not in state.synced]
    if behind:
        return note(
            "global",
            f"global runs (version {state.version}) but is not synchronized with {', '.join(behind)}",
            "It is synchronizing right now, or it waits for a lock that another node does not release.",
            "Try again in a few seconds. If that does not help,  global:info()  on that node shows the locks.",
            **facts,
        )
    others = f"synchronized with {', '.join(state.synced)}" if state.synced else "it knows no other node"
    return ok("global", f"global runs (version {state.version}); {others}", **facts)


def check_scopes(target: str, running: Mapping[str, bool]) -> Finding:
    """Check that at least one scope of ``pg`` runs on the node. ``running`` maps each scope to its state."""
    present = [scope for scope, runs in running.items() if runs]
    facts = {"scopes": dict(running)}
    if present:
        lacking = [scope for scope, runs in running.items() if not runs]
        not_running = f"; not running: {', '.join(lacking)}" if lacking else ""
        return ok("pg", f"running scopes of pg: {', '.join(present)}{not_running}", **facts)
    return note(
        "pg",
        f"no scope of pg runs on {target} (checked: {', '.join(running)})",
        "That node does not exchange groups. A BEAM does not start pg by itself.",
        "Start it there:  pg:start_link().  or in a supervisor  %{id: :pg, start: {:pg, :start_link, []}}",
        **facts,
    )


def parse_blocked_peers(answer: Term) -> dict[str, float]:
    """Parse the result of ``erlmesh:blocked_peers()``: nodes, and since how many seconds each is blocked.

    The result of an erlmesh node is a list of {Node, Milliseconds}. A BEAM returns an error, which gives an empty dict.
    """
    if not isinstance(answer, list):
        return {}
    pairs = [pair for pair in answer if isinstance(pair, tuple) and len(pair) == 2]
    return {node.name: ms / 1000 for node, ms in pairs if isinstance(node, Atom) and isinstance(ms, int)}


def check_blocked_peers(target: str, nodes: Mapping[str, float]) -> Finding | None:
    """Report the peers of the node whose event loop is blocked, as they announced it; None if there are none."""
    if not nodes:
        return None
    return note(
        "blocked",
        f"{target} is connected to nodes with a blocked event loop: "
        + ", ".join(f"{node} for {seconds:.0f} s" for node, seconds in nodes.items()),
        "Code on these nodes blocks the event loop. They still send ticks, but they answer nothing until it ends.",
        "Their logs, and  erlmesh health  on their machines, name the code. Move long work to asyncio.to_thread.",
        nodes=dict(nodes),
    )
