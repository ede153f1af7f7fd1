"""The steps one after the other: each looks, lets a pure function judge, and says whether there is a next."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from erlmesh.doctor import address_checks, handshake_checks, probes, service_checks
from erlmesh.doctor.findings import Finding, ProbeFailure, Status, failed
from erlmesh.errors import CallError, ConnectError, ErlmeshError, NodeStartError
from erlmesh.net.resolvers import NoEpmd, Resolver, StaticResolver
from erlmesh.node import Node, Process
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["Target", "diagnose"]

PING_COUNT = 5


@dataclass(frozen=True, slots=True)
class Target:
    """Which node to examine, and how. ``ours`` is the name of the node that cannot meet it, if that matters;
    ``cookie`` is called when it is needed and raises NodeStartError in words; ``resolver`` finds the node where EPMD
    has no part.
    """

    node_name: str
    client_name: str
    cookie: Callable[[], str]
    epmd_port: int
    local_name: str | None = None
    resolver: Resolver | None = None
    cookies: dict[str, str] = field(default_factory=dict)
    scopes: Sequence[str] = ("pg",)
    timeout: float = 5.0


async def diagnose(target: Target) -> AsyncIterator[Finding]:
    """The findings, each as soon as it is made; the first that failed is the last, but for the name's form."""
    form = address_checks.check_name(target.node_name, target.local_name)
    yield form
    if form.status is Status.FAILED and not form.facts:
        return  # it is no name at all
    place: list[tuple[str, int]] = []
    async for finding in _find_endpoints(target, place):
        yield finding
        if finding.status is Status.FAILED:
            return
    (host, port), by_epmd = place[-1], target.resolver is None
    addresses = [address for address, _ in place]
    tried: dict[str, ProbeFailure | None] = {}
    for address in addresses:
        link = await probes.connect_socket(address, port, target.timeout)
        tried[address] = link if isinstance(link, ProbeFailure) else None
        if not isinstance(link, ProbeFailure):
            host = address
            break
    yield address_checks.check_port(target.node_name.partition("@")[2], port, tried, from_epmd=by_epmd)
    if isinstance(link, ProbeFailure):
        return
    recorder = probes.RecordingNetwork(link)
    try:
        async for finding in _check_connection(target, host, port, recorder):
            yield finding
    finally:
        recorder.close()


async def _find_endpoints(target: Target, endpoints: list[tuple[str, int]]) -> AsyncIterator[Finding]:
    """Where the node listens: fills ``place`` with addresses, the likeliest first, and the port."""
    alive, _, host = target.node_name.partition("@")
    port = 0
    if target.resolver is not None:
        try:
            async with asyncio.timeout(target.timeout):
                host, port = await target.resolver.resolve(target.node_name)
        except (ErlmeshError, TimeoutError) as error:
            yield failed(
                "resolver", f"{error}", "The port is to be found without EPMD, and is not.", "Check --resolve."
            )
            return
    addresses, why_not = await probes.resolve_host(host, target.timeout)
    yield address_checks.check_addresses(host, addresses, why_not)
    if not addresses:
        return
    if target.resolver is not None:
        for finding in address_checks.epmd_skipped(f"the node is said to listen on port {port}"):
            yield finding
    else:
        talk = await probes.probe_epmd(addresses, target.epmd_port, alive, target.timeout)
        yield address_checks.check_epmd(host, target.epmd_port, talk.names, talk.failure, talk.observed)
        if talk.names is None:
            return
        yield address_checks.check_registration(target.node_name, talk.entry, talk.names)
        if talk.entry is None:
            return
        port = talk.entry.port
        addresses.sort(key=lambda address: address != talk.address)
    endpoints += [(address, port) for address in addresses]


async def _check_connection(
    target: Target, host: str, port: int, recorder: probes.RecordingNetwork
) -> AsyncIterator[Finding]:
    """The handshake, and on the connection that comes of it the services."""
    try:
        cookie = target.cookies.get(target.node_name) or target.cookie()
    except NodeStartError as error:
        yield failed("cookie", "there is no cookie here to show", "All nodes of a cluster share one.", str(error))
        return
    table = StaticResolver({target.node_name: (host, port)})
    options: dict[str, Any] = {
        "hidden": True,
        "epmd": NoEpmd(),
        "resolver": table,
        "network": recorder,
        "listen": "127.0.0.1",
    }
    async with Node(target.client_name, cookie=cookie, **options) as node:
        up, silent = False, False
        try:
            async with asyncio.timeout(max(target.timeout, 1.0)):
                up = await node.connect(target.node_name)
        except TimeoutError:
            silent = True
        why = node.last_connect_error(target.node_name) or ""
        heard = handshake_checks.parse_handshake(recorder.received)
        if not up and heard.status is None and heard.other_protocol is None:
            stranger = await probes.detect_service(host, port, target.timeout)
            heard = handshake_checks.HandshakeTranscript(other_protocol=stranger)
        for finding in handshake_checks.check_handshake(
            target.node_name, heard, up=up, timed_out=silent or "did not arrive" in why, reason=why
        ):
            yield finding
        if up:
            async for finding in _check_services(node, target):
                yield finding


async def _check_services(node: Node, peer: Target) -> AsyncIterator[Finding]:
    target = peer.node_name
    round_trips = []
    for _ in range(PING_COUNT):
        began = time.perf_counter()
        answer = await _call(node, (Atom("net_kernel"), Atom(target)), (Atom("is_auth"), node.atom), peer.timeout)
        if answer is None:
            break
        round_trips.append(time.perf_counter() - began)
    yield service_checks.check_ping(target, round_trips, PING_COUNT)
    if not round_trips:
        return
    yield service_checks.check_release(await _query_release(node, peer))
    yield service_checks.check_global(
        target, await _query_global(node, peer), running=await _is_registered(node, "global_name_server", peer)
    )
    request: Term = (Atom("call"), Atom("erlmesh"), Atom("blocked_peers"), [], Atom("user"))
    held = service_checks.check_blocked_peers(
        target,
        service_checks.parse_blocked_peers(await _call(node, (Atom("rex"), Atom(target)), request, peer.timeout)),
    )
    if held is not None:
        yield held
    yield service_checks.check_scopes(target, {scope: await _is_registered(node, scope, peer) for scope in peer.scopes})


async def _query_release(node: Node, target: Target) -> str | None:
    request = (Atom("call"), Atom("erlang"), Atom("system_info"), [Atom("otp_release")], Atom("user"))
    answer = await _call(node, (Atom("rex"), Atom(target.node_name)), request, target.timeout)
    if isinstance(answer, list) and answer and all(isinstance(letter, int) and 32 < letter < 127 for letter in answer):
        return "".join(map(chr, answer))
    return None


async def _query_global(node: Node, target: Target) -> service_checks.GlobalState | None:
    server = (Atom("global_name_server"), Atom(target.node_name))
    answers = [
        await _call(node, server, Atom(request), target.timeout)
        for request in ("get_protocol_version", "get_known", "get_synced")
    ]
    match answers:
        case [int() as version, list() as known, list() as synced]:
            return service_checks.GlobalState(version, _node_names(known), _node_names(synced))
    return None


def _node_names(nodes: list[Term]) -> list[str]:
    return [node.name for node in nodes if isinstance(node, Atom)]


async def _is_registered(node: Node, registered_name: str, target: Target) -> bool:
    """Whether a process is registered there as ``scope``: a monitor on nobody answers ``noproc`` at once."""
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def look(me: Process) -> None:
        ref = me.monitor((Atom(registered_name), Atom(target.node_name)))
        await _call(node, (Atom("net_kernel"), Atom(target.node_name)), (Atom("is_auth"), node.atom), target.timeout)
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
