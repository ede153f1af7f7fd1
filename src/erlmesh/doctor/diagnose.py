"""Run the steps in order. Each step probes, and a function without I/O turns the result into a finding."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from erlmesh.doctor import address_checks, certificate_checks, handshake_checks, probes, service_checks, tls_probe
from erlmesh.doctor.findings import Finding, Status, failed
from erlmesh.errors import CallError, ConnectError, ErlmeshError, NodeStartError
from erlmesh.net.resolvers import NoEpmd, Resolver, StaticResolver
from erlmesh.net.tls_config import TlsConfig
from erlmesh.node import Node, Process
from erlmesh.records import field, record
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["Target", "diagnose"]

PING_COUNT = 5
"""Number of pings, and so of measured round trips."""


@record(frozen=True)
class Target:
    """The node to examine, and how to connect to it."""

    node_name: str
    client_name: str
    """The name of the temporary hidden node that connects."""
    cookie: Callable[[], str]
    """Returns the cookie. It is called when the cookie is needed, and may raise NodeStartError."""
    epmd_port: int
    local_name: str | None = None
    """The name of the node that cannot connect, to compare the form of the names; None if that does not matter."""
    resolver: Resolver | None = None
    """Finds the port of the node without EPMD; None asks EPMD."""
    cookies: dict[str, str] = field(default_factory=dict, repr=False)
    """Cookies for single nodes; they take precedence over ``cookie``."""
    tls: TlsConfig | None = None
    """The files of this node for TLS; None connects with plain TCP."""
    scopes: Sequence[str] = ("pg",)
    timeout: float = 5.0
    """Seconds for each step."""


async def diagnose(target: Target) -> AsyncIterator[Finding]:
    """Yield each finding as soon as its step ends. The first failure is the last finding.

    The one exception is a name of the wrong form: the node can still be examined under a name of the right form.
    """
    name_finding = address_checks.check_name(target.node_name, target.local_name)
    yield name_finding
    if name_finding.status is Status.FAILED and not name_finding.facts:
        return  # it is not a node name at all
    trusted: Sequence[str] = ()
    if target.tls is not None:
        own = tls_probe.read_own_certificate(target.tls)
        trusted = own.authorities
        yield (finding := certificate_checks.check_own_certificate(own, target.local_name, _now()))
        if finding.status is Status.FAILED:
            return
    endpoints: list[tuple[str, int]] = []
    async for finding in _find_endpoints(target, endpoints):
        yield finding
        if finding.status is Status.FAILED:
            return
    port, from_epmd = endpoints[-1][1], target.resolver is None
    addresses = [address for address, _ in endpoints]
    connected, attempts = await probes.connect_any(addresses, port, target.timeout)
    yield address_checks.check_port(target.node_name.partition("@")[2], port, attempts, from_epmd=from_epmd)
    if connected is None:
        return
    host, sock = connected
    recorder = probes.RecordingNetwork(sock)
    try:
        if target.tls is not None:
            recorder.close()  # other connections come first, and a node does not wait long for a handshake
            yield (finding := await _check_tls(target, target.tls, host, port, trusted))
            if finding.status is Status.FAILED:
                return
        async for finding in _check_connection(target, host, port, recorder):
            yield finding
    finally:
        recorder.close()


async def _check_tls(target: Target, config: TlsConfig, host: str, port: int, trusted: Sequence[str]) -> Finding:
    endpoint = tls_probe.TlsEndpoint(host, port, target.node_name.partition("@")[2], target.client_name, target.timeout)
    outcome = await tls_probe.probe_tls(endpoint, config)
    return certificate_checks.check_tls(target.node_name, outcome, trusted, _now(), verify_host=config.verify_host)


def _now() -> datetime:
    return datetime.now(UTC)


async def _find_endpoints(target: Target, endpoints: list[tuple[str, int]]) -> AsyncIterator[Finding]:
    """Find where the node listens. Fills ``endpoints`` with (address, port), the most likely address first."""
    alive_name, _, host = target.node_name.partition("@")
    port = 0
    if target.resolver is not None:
        try:
            async with asyncio.timeout(target.timeout):
                host, port = await target.resolver.resolve(target.node_name)
        except (ErlmeshError, TimeoutError) as error:
            yield failed(
                "resolver", f"{error}", "The port must be found without EPMD, and that failed.", "Check --resolve."
            )
            return
    addresses, reason = await probes.resolve_host(host, target.timeout)
    yield address_checks.check_addresses(host, addresses, reason)
    if not addresses:
        return
    if target.resolver is not None:
        for finding in address_checks.epmd_skipped(f"the options give port {port} for the node"):
            yield finding
    else:
        probe = await probes.probe_epmd(addresses, target.epmd_port, alive_name, target.timeout)
        yield address_checks.check_epmd(host, target.epmd_port, probe.names, probe.failure, probe.observed)
        if probe.names is None:
            return
        yield address_checks.check_registration(target.node_name, probe.entry, probe.names)
        if probe.entry is None:
            return
        port = probe.entry.port
        addresses.sort(key=lambda address: address != probe.address)  # the address whose EPMD answered comes first
    endpoints += [(address, port) for address in addresses]


async def _check_connection(
    target: Target, host: str, port: int, recorder: probes.RecordingNetwork
) -> AsyncIterator[Finding]:
    """Connect as a hidden node and yield the findings about the handshake, then about the services."""
    try:
        cookie = target.cookies.get(target.node_name) or target.cookie()
    except NodeStartError as error:
        yield failed("cookie", "this machine has no cookie", "All nodes of a cluster share one cookie.", str(error))
        return
    table = StaticResolver({target.node_name: (host, port)})
    options: dict[str, Any] = {
        "hidden": True,
        "hidden_groups": False,
        "epmd": NoEpmd(),
        "resolver": table,
        "network": recorder,
        "listen": "127.0.0.1",
        "tls": target.tls,
    }
    async with Node(target.client_name, cookie=cookie, **options) as node:
        up, timed_out = False, False
        try:
            async with asyncio.timeout(max(target.timeout, 1.0)):
                up = await node.connect(target.node_name)
        except TimeoutError:
            timed_out = True
        timed_out = timed_out or node.internals.connect_timed_out(target.node_name)
        reason = node.last_connect_error(target.node_name) or ""
        transcript = handshake_checks.parse_handshake(recorder.received, tls=target.tls is not None)
        if not up and transcript.status is None and transcript.other_protocol is None and target.tls is None:
            # No handshake data: another service may wait for the client to speak its protocol first.
            other_protocol = await probes.detect_service(host, port, target.timeout)
            transcript = handshake_checks.HandshakeTranscript(other_protocol=other_protocol)
        for finding in handshake_checks.check_handshake(
            target.node_name, transcript, up=up, timed_out=timed_out, reason=reason
        ):
            yield finding
        if up:
            async for finding in _check_services(node, target):
                yield finding


async def _check_services(node: Node, peer: Target) -> AsyncIterator[Finding]:
    target = peer.node_name
    round_trips = []
    for _ in range(PING_COUNT):
        started = time.perf_counter()
        answer = await _call(
            node, (Atom("net_kernel"), Atom(target)), (Atom("is_auth"), node.internals.atom), peer.timeout
        )
        if answer is None:
            break
        round_trips.append(time.perf_counter() - started)
    yield service_checks.check_ping(target, round_trips, PING_COUNT)
    if not round_trips:
        return
    yield service_checks.check_release(
        await _query_system_info(node, peer, "otp_release"), await _query_system_info(node, peer, "system_version")
    )
    yield service_checks.check_global(
        target, await _query_global(node, peer), running=await _is_registered(node, "global_name_server", peer)
    )
    request: Term = (Atom("call"), Atom("erlmesh"), Atom("blocked_peers"), [], Atom("user"))
    blocked_finding = service_checks.check_blocked_peers(
        target,
        service_checks.parse_blocked_peers(await _call(node, (Atom("rex"), Atom(target)), request, peer.timeout)),
    )
    if blocked_finding is not None:
        yield blocked_finding
    yield service_checks.check_scopes(target, {scope: await _is_registered(node, scope, peer) for scope in peer.scopes})


async def _query_system_info(node: Node, target: Target, item: str) -> str | None:
    """Return a text of ``erlang:system_info/1`` of the target; None if it gives none."""
    request = (Atom("call"), Atom("erlang"), Atom("system_info"), [Atom(item)], Atom("user"))
    answer = await _call(node, (Atom("rex"), Atom(target.node_name)), request, target.timeout)
    if isinstance(answer, list) and answer and all(isinstance(each, int) and 0 < each < 127 for each in answer):
        text = "".join(map(chr, answer[:200])).strip()
        return text if text.isprintable() else None
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
    """Return true if a process is registered under ``registered_name`` on the target.

    A monitor of a name without a process sends DOWN with ``noproc`` at once. Signals arrive in order, so a DOWN must
    have arrived before the answer to a later call of net_kernel.
    """
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def check(me: Process) -> None:
        ref = me.monitor((Atom(registered_name), Atom(target.node_name)))
        await _call(
            node, (Atom("net_kernel"), Atom(target.node_name)), (Atom("is_auth"), node.internals.atom), target.timeout
        )
        with contextlib.suppress(TimeoutError):
            await me.receive(lambda message: _is_down(message, ref), timeout=0)
            answer.set_result(False)
            return
        me.demonitor(ref, flush=True)
        answer.set_result(True)

    node.spawn(check)
    return await answer


def _is_down(message: Term, ref: Ref) -> bool:
    return isinstance(message, tuple) and len(message) == 5 and message[0] is Atom("DOWN") and message[1] == ref


async def _call(node: Node, to: tuple[Atom, Atom] | Pid, request: Term, timeout: float) -> Term | None:
    """Return the reply of a gen_server call, or None if there is none."""
    try:
        return await node.call(to, request, timeout=timeout)
    except (CallError, ConnectError):
        return None
