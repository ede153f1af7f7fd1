"""Asks a BEAM for its view. It needs nothing there but OTP: each question is one that any node may ask.

One look is four calls, and two more with groups. Functions of ``lists`` run several questions in one call::

    lists:zipwith3(fun erlang:apply/3, Modules, Functions, Arguments)    figures, and its links
    lists:map(fun inet:getstat/1, Ports)                                 bytes of each link
    lists:map(fun pg:get_members/1, pg:which_groups())                   groups of the default scope
    lists:map(fun global:whereis_name/1, global:registered_names())      global names
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from erlmesh.core.cluster_view.shapes import MAX_GROUPS, MAX_LINKS, MAX_NAMES, LinkView, NodeView
from erlmesh.core.cluster_view.shards import ShardTable, is_inner_group, shard_of
from erlmesh.core.cluster_view.texts import name_text, plain_text
from erlmesh.errors import CallError
from erlmesh.services.rpc.client import call
from erlmesh.services.viewing.node_view import group_views, named_pids
from erlmesh.terms import Atom, Export, Pid, Term

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["CALL_TIMEOUT", "poll_view"]

CALL_TIMEOUT: Final = 5.0
MAX_SHARD_GROUPS: Final = 4096
_PG: Final = Atom("pg")
_ERLANG: Final = Atom("erlang")
_QUESTIONS: Final[list[tuple[str, str, list[Term]]]] = [
    ("erlang", "nodes", [Atom("visible")]),
    ("erlang", "nodes", [Atom("hidden")]),
    ("erlang", "system_info", [Atom("dist_ctrl")]),
    ("erlang", "system_info", [Atom("otp_release")]),
    ("erlang", "system_info", [Atom("version")]),
    ("erlang", "system_info", [Atom("creation")]),
    ("erlang", "system_info", [Atom("process_count")]),
    ("erlang", "statistics", [Atom("wall_clock")]),
    ("net_kernel", "get_net_ticktime", []),
    ("init", "get_argument", [Atom("hidden")]),
]


async def poll_view(runtime: Runtime, node: str, *, with_groups: bool) -> NodeView:
    """Return what ``node`` answers, with its groups if ``with_groups``.

    Raises CallError if it does not answer, or does not know OTP's functions.
    """
    ask = _Asker(runtime, node)
    modules, functions, arguments = zip(*_QUESTIONS, strict=True)
    answers = await ask(
        "lists",
        "zipwith3",
        [Export(_ERLANG, Atom("apply"), 3), [*map(Atom, modules)], [*map(Atom, functions)], [*arguments]],
    )
    if not isinstance(answers, list) or len(answers) != len(_QUESTIONS):
        raise CallError("the node answers as no node of OTP does")
    visible, hidden, controllers, otp, version, creation, processes, clock, tick_time, is_hidden = answers
    octets = await _octets(ask, controllers)
    links: dict[str, LinkView] = {}
    for peers, kind in ((hidden, True), (visible, False)):
        for peer in islice(peers if isinstance(peers, list) else (), MAX_LINKS):
            if isinstance(peer, Atom):
                links[name_text(peer.name)] = _link(octets.get(peer.name, (None, None, None)), hidden=kind)
    view: NodeView = {
        "kind": "beam",
        "otp": _string(otp),
        "version": _string(version),
        "build": None,
        "hidden": isinstance(is_hidden, tuple),
        "creation": creation if isinstance(creation, int) else None,
        "uptime": clock[0] / 1000 if isinstance(clock, tuple) and clock and isinstance(clock[0], int) else None,
        "processes": processes if isinstance(processes, int) else None,
        "tick_time": float(tick_time) if isinstance(tick_time, int) else None,
        "links": links,
        "partial": None,
    }
    if with_groups:
        await _add_groups(ask, view)
    await _add_names(ask, view)
    return view


class _Asker:
    """Calls functions of one node."""

    def __init__(self, runtime: Runtime, node: str) -> None:
        self._runtime = runtime
        self._node = node

    async def __call__(self, module: str, function: str, arguments: Sequence[Term] = ()) -> Term:
        return await call(self._runtime, self._node, module, function, arguments, timeout=CALL_TIMEOUT)


async def _octets(ask: _Asker, controllers: Term) -> dict[str, tuple[int | None, int | None, int | None]]:
    """Return the bytes in and out of each connection, and those that wait. With TLS, a connection has no port."""
    ports = [
        (each[0].name, each[1])
        for each in islice(controllers if isinstance(controllers, list) else (), MAX_LINKS)
        if isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], Atom) and not isinstance(each[1], Pid)
    ]
    if not ports:
        return {}
    arguments = [Export(Atom("inet"), Atom("getstat"), 1), [port for _, port in ports]]
    try:
        answers = await ask("lists", "map", arguments)
    except CallError:
        return {}
    found: dict[str, tuple[int | None, int | None, int | None]] = {}
    for (name, _), answer in zip(ports, answers if isinstance(answers, list) else (), strict=False):
        match answer:
            case (Atom("ok"), list() as figures):
                numbers = {key.name: number for key, number in _pairs(figures) if isinstance(number, int)}
                found[name] = numbers.get("recv_oct"), numbers.get("send_oct"), numbers.get("send_pend")
    return found


def _pairs(figures: list[Any]) -> list[tuple[Atom, Any]]:
    return [(each[0], each[1]) for each in figures if isinstance(each, tuple) and isinstance(each[0], Atom)]


async def _add_groups(ask: _Asker, view: NodeView) -> None:
    try:
        groups = await ask("pg", "which_groups")
        listed = _listed_groups(groups if isinstance(groups, list) else [])
        members = await ask("lists", "map", [Export(_PG, Atom("get_members"), 1), listed]) if listed else []
    except CallError:  # OTP starts the scope only if it is asked to
        view["partial"] = "pg does not run on this node"
        groups, listed, members = [], [], []
    shards = ShardTable()
    pairs = [
        (group, [pid for pid in pids if isinstance(pid, Pid)])
        for group, pids in zip(listed, members if isinstance(members, list) else (), strict=False)
        if isinstance(pids, list)
    ]
    view["groups"], more = group_views(_PG, pairs, shards, {})
    view["more_groups"] = more + max(0, len(groups if isinstance(groups, list) else ()) - len(listed))
    view["shards"] = shards.views()


def _listed_groups(groups: list[Term]) -> list[Term]:
    """Return the groups whose members are asked for. Shards are not counted as groups."""
    shards = [group for group in groups if shard_of(group) is not None]
    return [group for group in groups if not is_inner_group(group)][:MAX_GROUPS] + shards[:MAX_SHARD_GROUPS]


async def _add_names(ask: _Asker, view: NodeView) -> None:
    try:
        names = await ask("global", "registered_names")
        listed = names[:MAX_NAMES] if isinstance(names, list) else []
        pids = await ask("lists", "map", [Export(Atom("global"), Atom("whereis_name"), 1), listed]) if listed else []
    except CallError:
        return
    view["names"] = named_pids(zip(listed, pids if isinstance(pids, list) else (), strict=False))


def _link(octets: tuple[int | None, int | None, int | None], *, hidden: bool) -> LinkView:
    bytes_in, bytes_out, queued = octets
    return {
        "state": "up", "silent": None, "bytes_in": bytes_in, "bytes_out": bytes_out, "queued": queued,
        "suspended": False, "hidden": hidden, "reason": None, "attempt": None, "next": None,
    }  # fmt: skip


def _string(value: Term) -> str | None:
    """Return the text of an Erlang string, a list of code points."""
    if isinstance(value, list) and all(isinstance(each, int) and 0 <= each < 0x110000 for each in value[:50]):
        return plain_text("".join(map(chr, value[:50])))
    return None
