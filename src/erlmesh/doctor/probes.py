"""Probe hosts and ports, each with a timeout: addresses, EPMD, and the protocol of a service."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Sequence

from erlmesh.doctor.findings import ProbeFailure
from erlmesh.doctor.handshake_checks import identify_protocol
from erlmesh.errors import RemoteProtocolError
from erlmesh.net import host_names
from erlmesh.net.dist_protocol import DistProtocol
from erlmesh.net.happy_eyeballs import first_success
from erlmesh.net.network import TcpNetwork, attach
from erlmesh.proto import epmd as protocol
from erlmesh.records import record

__all__ = [
    "EpmdProbe",
    "RecordingNetwork",
    "connect_any",
    "connect_socket",
    "detect_service",
    "probe_epmd",
    "resolve_host",
]

RECORD_LIMIT = 1 << 12
"""Bytes of the peer's data to keep. The handshake is much shorter."""
BANNER_TIMEOUT = 0.3
"""Seconds to wait for the banner of a server that speaks first."""


async def resolve_host(host: str, timeout: float) -> tuple[list[str], str]:
    """Return the addresses of ``host`` and "", or an empty list and the reason."""
    try:
        async with asyncio.timeout(timeout):
            return await host_names.resolve_host(host), ""
    except TimeoutError:
        return [], f"DNS did not answer within {timeout:g} s"
    except OSError as fault:
        return [], fault.strerror or str(fault)


async def connect_socket(address: str, port: int, timeout: float) -> socket.socket | ProbeFailure:
    """Return a connected socket, which the caller must close, or the failure."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException as fault:
        sock.close()
        if isinstance(fault, OSError):  # TimeoutError is one
            return _classify_error(fault)
        raise
    return sock


async def connect_any(
    addresses: Sequence[str], port: int, timeout: float
) -> tuple[tuple[str, socket.socket] | None, dict[str, ProbeFailure | None]]:
    """Connect with the first of ``addresses`` that accepts. Each next one is tried a little later.

    Return this address and its socket, which the caller must close, or None. Also return the result of each attempt
    that has ended: the failure, or None for success.
    """
    attempts: dict[str, ProbeFailure | None] = {}

    async def attempt(address: str) -> tuple[str, socket.socket]:
        sock = await connect_socket(address, port, timeout)
        if isinstance(sock, ProbeFailure):
            attempts[address] = sock
            raise OSError(sock)
        return address, sock

    try:
        connected = await first_success(addresses, attempt, discard=lambda late: late[1].close())
    except OSError:
        return None, attempts
    return connected, {**attempts, connected[0]: None}


def _classify_error(error: OSError) -> ProbeFailure:
    if isinstance(error, ConnectionRefusedError):
        return ProbeFailure.REFUSED
    if isinstance(error, TimeoutError):
        return ProbeFailure.NO_RESPONSE
    if isinstance(error, ConnectionError):
        return ProbeFailure.CLOSED
    return (
        ProbeFailure.UNREACHABLE if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH) else ProbeFailure.NO_RESPONSE
    )


@record(frozen=True)
class EpmdProbe:
    """The answers of an EPMD, or the failure. ``observed`` describes another service on its port."""

    address: str
    names: dict[str, int] | None = None
    entry: protocol.PortInfo | None = None
    failure: ProbeFailure | None = None
    observed: str = ""


async def probe_epmd(addresses: Sequence[str], port: int, alive_name: str, timeout: float) -> EpmdProbe:
    """Ask the EPMD for its names and for the node ``alive_name``, on the first of ``addresses`` that answers.

    Each next address is asked a little later, while the earlier ones have not answered. If none answers, the probe with
    the most informative failure is returned.
    """
    failures: list[EpmdProbe] = []

    async def attempt(address: str) -> EpmdProbe:
        probe = await _probe(address, port, alive_name, timeout)
        if probe.names is None:
            failures.append(probe)
            raise OSError(probe.failure)
        return probe

    with contextlib.suppress(OSError):
        return await first_success(addresses, attempt, discard=lambda _: None)
    preference = [
        ProbeFailure.OTHER_PROTOCOL,
        ProbeFailure.CLOSED,
        ProbeFailure.NO_RESPONSE,
        ProbeFailure.REFUSED,
        ProbeFailure.UNREACHABLE,
    ]
    return min(failures, key=lambda probe: preference.index(probe.failure or ProbeFailure.NO_RESPONSE))


async def _probe(address: str, port: int, alive_name: str, timeout: float) -> EpmdProbe:
    names = await _query(address, port, protocol.encode_names(), timeout)
    if isinstance(names, ProbeFailure):
        if names in (ProbeFailure.NO_RESPONSE, ProbeFailure.CLOSED) and (
            service := await detect_service(address, port, timeout)
        ):
            return EpmdProbe(address, failure=ProbeFailure.OTHER_PROTOCOL, observed=service)
        return EpmdProbe(address, failure=names)
    entry = await _query(address, port, protocol.encode_lookup(alive_name), timeout)
    if isinstance(entry, ProbeFailure):
        return EpmdProbe(address, failure=entry)
    try:
        if int.from_bytes(names[:4], "big") != port and not 0 < int.from_bytes(names[:4], "big") < 65536:
            raise RemoteProtocolError
        return EpmdProbe(address, protocol.decode_names_response(names), protocol.decode_lookup_response(entry))
    except RemoteProtocolError:
        service = identify_protocol(names) or identify_protocol(entry)
        return EpmdProbe(address, failure=ProbeFailure.OTHER_PROTOCOL, observed=service or f"it sends {names[:16]!r}")


async def _query(address: str, port: int, request: bytes, timeout: float) -> bytes | ProbeFailure:
    sock = await connect_socket(address, port, timeout)
    if isinstance(sock, ProbeFailure):
        return sock
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        async with asyncio.timeout(timeout):
            writer.write(request)
            return await reader.read(1 << 20) or ProbeFailure.CLOSED
    except OSError as fault:
        return _classify_error(fault)
    finally:
        writer.close()


async def detect_service(address: str, port: int, timeout: float) -> str | None:
    """Describe the service on a port that did not answer as expected, or return None if it is unknown.

    Waits for a banner first, then sends an HTTP request.
    """
    sock = await connect_socket(address, port, timeout)
    if isinstance(sock, ProbeFailure):
        return None
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        for wait, request in ((BANNER_TIMEOUT, b""), (min(timeout, 2.0), b"HEAD / HTTP/1.0\r\n\r\n")):
            writer.write(request)
            try:
                async with asyncio.timeout(wait):
                    data = await reader.read(256)
            except TimeoutError:
                continue
            return identify_protocol(data)
    except OSError:
        return None
    finally:
        writer.close()
    return None


class RecordingNetwork(TcpNetwork):
    """A network that uses an already connected socket for the first ``dial`` and records the received bytes.

    The port check has already opened that socket. Of a TLS connection it records what was inside TLS.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock: socket.socket | None = sock
        self.received = b""

    async def dial(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
        sock, self._sock = self._sock, None
        if sock is None:
            await super().dial(host, port, lambda: self._tapped(protocol()))
            return
        await attach(sock, lambda: self._tapped(protocol()))

    def close(self) -> None:
        """Close the socket if ``dial`` has not used it. A later ``dial`` opens another one."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _tapped(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        """Return ``protocol``, whose bytes are recorded before it handles them."""
        assert isinstance(protocol, DistProtocol)
        handle = protocol.stream_received

        def stream_received(data: bytes) -> None:
            if len(self.received) < RECORD_LIMIT:
                self.received += data[: RECORD_LIMIT - len(self.received)]
            handle(data)

        protocol.stream_received = stream_received  # type: ignore[method-assign]
        return protocol
