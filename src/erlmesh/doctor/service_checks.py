"""What runs on a node that we are connected with: net_kernel, the release, global, and scopes of pg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from erlmesh.doctor.findings import Finding, failed, note, ok
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


@dataclass(frozen=True, slots=True)
class GlobalState:
    """What ``global_name_server`` told: its protocol version, and the nodes it knows and is in step with."""

    version: int
    known: Sequence[str]
    synced: Sequence[str]


def check_ping(target: str, round_trips: Sequence[float], count: int) -> Finding:
    """Answers of ``net_kernel`` to ``asked`` pings, each with the seconds it took by our clock alone."""
    if not round_trips:
        return failed(
            "ping",
            f"connected, but net_kernel of {target} does not answer",
            "The connection stands while the node's own processes do not run: it is starting, overloaded, or stopped.",
            "Try again; if it stays so, look at that node's load and its log.",
        )
    times = [seconds * 1000 for seconds in round_trips]
    facts: dict[str, Any] = {
        "ms": {"least": round(min(times), 3), "median": round(median(times), 3), "most": round(max(times), 3)}
    }
    says = f"net_kernel answers; there and back takes {median(times):.1f} ms ({min(times):.1f} to {max(times):.1f})"
    if len(round_trips) < count:
        return note("ping", f"{says}, but {count - len(round_trips)} of {count} were lost", **facts)
    return ok("ping", says, **facts)


def check_release(otp_release: str | None) -> Finding:
    """Which OTP the node says it is; None if it is no BEAM."""
    if otp_release is None:
        return ok("release", "it does not name an OTP release: no BEAM, perhaps a node of erlmesh", otp=None)
    return ok("release", f"it is a BEAM of OTP {otp_release}", otp=otp_release)


def check_global(target: str, state: GlobalState | None, *, running: bool) -> Finding:
    """Whether ``global`` runs there, and whether it is in step with the nodes it knows."""
    if state is None and running:
        return note(
            "global",
            f"global runs on {target} and does not answer",
            "Whoever registers a name or takes a lock of the whole cluster waits for it. It is stuck or very busy.",
            "There,  process_info(whereis(global_name_server))  shows what it waits for.",
        )
    if state is None:
        return note(
            "global",
            f"{target} does not run global",
            "It keeps out of the mesh: nobody introduces it to others, and it has no names of the whole cluster.",
        )
    facts = {"version": state.version, "known": list(state.known), "synced": list(state.synced)}
    behind = [node for node in state.known if node not in state.synced]
    if behind:
        return note(
            "global",
            f"global runs (version {state.version}) and is not in step with {', '.join(behind)}",
            "It is either meeting them right now, or waiting for a lock that somebody does not give back.",
            "Ask again in a few seconds. If it stays so,  global:info()  on that node shows who is in the way.",
            **facts,
        )
    others = f"in step with {', '.join(state.synced)}" if state.synced else "it knows no other node"
    return ok("global", f"global runs (version {state.version}); {others}", **facts)


def check_scopes(target: str, running: Mapping[str, bool]) -> Finding:
    """Which scopes of ``pg`` run there."""
    there = [scope for scope, runs in running.items() if runs]
    facts = {"scopes": dict(running)}
    if there:
        lacking = [scope for scope, runs in running.items() if not runs]
        return ok("pg", f"pg runs: {', '.join(there)}" + (f"; not {', '.join(lacking)}" if lacking else ""), **facts)
    return note(
        "pg",
        f"no scope of pg runs on {target} ({', '.join(running)})",
        "Groups are not exchanged with that node. Nothing starts pg by itself on a BEAM.",
        "There,  pg:start_link().  or in a supervisor  %{id: :pg, start: {:pg, :start_link, []}}",
        **facts,
    )


def parse_blocked_peers(answer: Term) -> dict[str, float]:
    """What a node of erlmesh says of ``erlmesh:blocked_peers()``: nodes and for how many seconds. Nothing, if it is a BEAM."""
    if not isinstance(answer, list):
        return {}
    pairs = [pair for pair in answer if isinstance(pair, tuple) and len(pair) == 2]
    return {node.name: held / 1000 for node, held in pairs if isinstance(node, Atom) and isinstance(held, int)}


def check_blocked_peers(target: str, nodes: Mapping[str, float]) -> Finding | None:
    """Which nodes that it is connected with have told it that their loops are held; None if there are none."""
    if not nodes:
        return None
    return note(
        "blocked",
        f"{target} is connected with nodes that are busy: "
        + ", ".join(f"{node} for {seconds:.0f} s" for node, seconds in nodes.items()),
        "Code of theirs holds their event loop. They send ticks, and answer nothing until it is done.",
        "Their logs, and there  erlmesh health,  say which code it is. Long work belongs into asyncio.to_thread.",
        nodes=dict(nodes),
    )
