"""The steps one after the other: each looks, lets a pure function judge, and says whether there is a next."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from erlmesh.doctor import greeting, services, sockets, way
from erlmesh.doctor.findings import Fault, Finding, Verdict, failed
from erlmesh.errors import CallError, ConnectError, ErlmeshError, NodeStartError
from erlmesh.net.resolvers import NoEpmd, Resolver, StaticResolver
from erlmesh.node import Node
from erlmesh.runtime.process import Process
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["Patient", "examine"]

PINGS = 5


@dataclass(frozen=True, slots=True)
class Patient:
    """Which node to examine, and how. ``ours`` is the name of the node that cannot meet it, if that matters;
    ``cookie`` is called when it is needed and raises NodeStartError in words; ``resolver`` finds the node where EPMD
    has no part.
    """

    target: str
    name: str
    cookie: Callable[[], str]
    epmd_port: int
    ours: str | None = None
    resolver: Resolver | None = None
    cookies: dict[str, str] = field(default_factory=dict)
    scopes: Sequence[str] = ("pg",)
    timeout: float = 5.0


async def examine(patient: Patient) -> AsyncIterator[Finding]:
    """The findings, each as soon as it is made; the first that failed is the last, but for the name's form."""
    form = way.name_form(patient.target, patient.ours)
    yield form
    if form.verdict is Verdict.FAILED and not form.facts:
        return  # it is no name at all
    place: list[tuple[str, int]] = []
    async for finding in _find(patient, place):
        yield finding
        if finding.verdict is Verdict.FAILED:
            return
    (host, port), by_epmd = place[-1], patient.resolver is None
    addresses = [address for address, _ in place]
    tried: dict[str, Fault | None] = {}
    for address in addresses:
        link = await sockets.connect(address, port, patient.timeout)
        tried[address] = link if isinstance(link, Fault) else None
        if not isinstance(link, Fault):
            host = address
            break
    yield way.port_reached(patient.target.partition("@")[2], port, tried, by_epmd=by_epmd)
    if isinstance(link, Fault):
        return
    recorder = sockets.Recorder(link)
    try:
        async for finding in _meet(patient, host, port, recorder):
            yield finding
    finally:
        recorder.close()


async def _find(patient: Patient, place: list[tuple[str, int]]) -> AsyncIterator[Finding]:
    """Where the node listens: fills ``place`` with addresses, the likeliest first, and the port."""
    alive, _, host = patient.target.partition("@")
    port = 0
    if patient.resolver is not None:
        try:
            async with asyncio.timeout(patient.timeout):
                host, port = await patient.resolver.resolve(patient.target)
        except (ErlmeshError, TimeoutError) as error:
            yield failed(
                "resolver", f"{error}", "The port is to be found without EPMD, and is not.", "Check --resolve."
            )
            return
    addresses, why_not = await sockets.look_up_host(host, patient.timeout)
    yield way.addresses_found(host, addresses, why_not)
    if not addresses:
        return
    if patient.resolver is not None:
        for finding in way.epmd_not_asked(f"the node is said to listen on port {port}"):
            yield finding
    else:
        talk = await sockets.talk_to_epmd(addresses, patient.epmd_port, alive, patient.timeout)
        yield way.epmd_answered(host, patient.epmd_port, talk.names, talk.fault, talk.saw)
        if talk.names is None:
            return
        yield way.registration(patient.target, talk.where, talk.names)
        if talk.where is None:
            return
        port = talk.where.port
        addresses.sort(key=lambda address: address != talk.address)
    place += [(address, port) for address in addresses]


async def _meet(patient: Patient, host: str, port: int, recorder: sockets.Recorder) -> AsyncIterator[Finding]:
    """The handshake, and on the connection that comes of it the services."""
    try:
        cookie = patient.cookies.get(patient.target) or patient.cookie()
    except NodeStartError as error:
        yield failed("cookie", "there is no cookie here to show", "All nodes of a cluster share one.", str(error))
        return
    table = StaticResolver({patient.target: (host, port)})
    options: dict[str, Any] = {
        "hidden": True,
        "epmd": NoEpmd(),
        "resolver": table,
        "network": recorder,
        "listen": "127.0.0.1",
    }
    async with Node(patient.name, cookie=cookie, **options) as node:
        up, silent = False, False
        try:
            async with asyncio.timeout(max(patient.timeout, 1.0)):
                up = await node.connect(patient.target)
        except TimeoutError:
            silent = True
        why = node.last_connect_error(patient.target) or ""
        heard = greeting.read_greeting(recorder.received)
        if not up and heard.status is None and heard.stranger is None:
            stranger = await sockets.who_is_there(host, port, patient.timeout)
            heard = greeting.Heard(stranger=stranger)
        for finding in greeting.greeted(
            patient.target, heard, up=up, silent=silent or "did not arrive" in why, why=why
        ):
            yield finding
        if up:
            async for finding in _look_around(node, patient):
                yield finding


async def _look_around(node: Node, patient: Patient) -> AsyncIterator[Finding]:
    target = patient.target
    round_trips = []
    for _ in range(PINGS):
        began = time.perf_counter()
        answer = await _call(node, (Atom("net_kernel"), Atom(target)), (Atom("is_auth"), node.atom), patient.timeout)
        if answer is None:
            break
        round_trips.append(time.perf_counter() - began)
    yield services.pinged(target, round_trips, PINGS)
    if not round_trips:
        return
    yield services.release(await _release(node, patient))
    yield services.global_state(
        target, await _global(node, patient), runs=await _runs(node, "global_name_server", patient)
    )
    request: Term = (Atom("call"), Atom("erlmesh"), Atom("blocked_peers"), [], Atom("user"))
    held = services.busy(
        target, services.read_busy(await _call(node, (Atom("rex"), Atom(target)), request, patient.timeout))
    )
    if held is not None:
        yield held
    yield services.scopes(target, {scope: await _runs(node, scope, patient) for scope in patient.scopes})


async def _release(node: Node, patient: Patient) -> str | None:
    request = (Atom("call"), Atom("erlang"), Atom("system_info"), [Atom("otp_release")], Atom("user"))
    answer = await _call(node, (Atom("rex"), Atom(patient.target)), request, patient.timeout)
    if isinstance(answer, list) and answer and all(isinstance(letter, int) and 32 < letter < 127 for letter in answer):
        return "".join(map(chr, answer))
    return None


async def _global(node: Node, patient: Patient) -> services.GlobalState | None:
    server = (Atom("global_name_server"), Atom(patient.target))
    answers = [
        await _call(node, server, Atom(request), patient.timeout)
        for request in ("get_protocol_version", "get_known", "get_synced")
    ]
    match answers:
        case [int() as version, list() as known, list() as synced]:
            return services.GlobalState(version, _names(known), _names(synced))
    return None


def _names(nodes: list[Term]) -> list[str]:
    return [node.name for node in nodes if isinstance(node, Atom)]


async def _runs(node: Node, scope: str, patient: Patient) -> bool:
    """Whether a process is registered there as ``scope``: a monitor on nobody answers ``noproc`` at once."""
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def look(me: Process) -> None:
        ref = me.monitor((Atom(scope), Atom(patient.target)))
        await _call(node, (Atom("net_kernel"), Atom(patient.target)), (Atom("is_auth"), node.atom), patient.timeout)
        with contextlib.suppress(TimeoutError):
            await me.receive(lambda message: _is_down(message, ref), timeout=0)
            answer.set_result(False)
            return
        me.demonitor(ref, flush=True)
        answer.set_result(True)

    node.spawn(look)
    return await answer


def _is_down(message: Term, ref: Ref) -> bool:
    return isinstance(message, tuple) and len(message) == 5 and message[0] is Atom("DOWN") and message[1] == ref


async def _call(node: Node, to: tuple[Atom, Atom] | Pid, request: Term, timeout: float) -> Term | None:
    """The answer, or None if none came."""
    try:
        return await node.call(to, request, timeout=timeout)
    except (CallError, ConnectError):
        return None
