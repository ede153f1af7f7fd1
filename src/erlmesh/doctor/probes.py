"""Looks at hosts and ports with a stop-watch: addresses, EPMD, and who speaks there."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from erlmesh.doctor.findings import ProbeFailure
from erlmesh.doctor.handshake_checks import identify_protocol
from erlmesh.errors import RemoteProtocolError
from erlmesh.net.network import TcpNetwork
from erlmesh.proto import epmd as protocol

__all__ = ["EpmdProbe", "RecordingNetwork", "connect_socket", "detect_service", "probe_epmd", "resolve_host"]

RECORD_LIMIT = 1 << 12
BANNER_TIMEOUT = 0.3
"""Seconds for a server that speaks first."""


async def resolve_host(host: str, timeout: float) -> tuple[list[str], str]:
    """The addresses of ``host``, or why there are none."""
    try:
        async with asyncio.timeout(timeout):
            found = await asyncio.get_running_loop().getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except TimeoutError:
        return [], f"DNS did not answer within {timeout:g} s"
    except OSError as fault:
        return [], fault.strerror or str(fault)
    except UnicodeError:
        return [], "it is no host name"
    return list(dict.fromkeys(str(entry[4][0]) for entry in found)), ""


async def connect_socket(address: str, port: int, timeout: float) -> socket.socket | ProbeFailure:
    """A connected socket, or why there is none."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    link = socket.socket(family, socket.SOCK_STREAM)
    link.setblocking(False)
    try:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(link, (address, port))
    except BaseException as fault:
        link.close()
        if isinstance(fault, OSError):  # TimeoutError is one
            return _classify_error(fault)
        raise
    return link


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


@dataclass(frozen=True, slots=True)
class EpmdProbe:
    """What an EPMD told, or why it did not."""

    address: str
    names: dict[str, int] | None = None
    entry: protocol.PortInfo | None = None
    failure: ProbeFailure | None = None
    observed: str = ""


async def probe_epmd(addresses: Sequence[str], port: int, alive_name: str, timeout: float) -> EpmdProbe:
    """Asks the first of ``addresses`` that answers as an EPMD for its names, and for the node ``alive``."""
    talks = []
    for address in addresses:
        talk = await _probe(address, port, alive_name, timeout)
        if talk.names is not None:
            return talk
        talks.append(talk)
    worth = [
        ProbeFailure.OTHER_PROTOCOL,
        ProbeFailure.CLOSED,
        ProbeFailure.NO_RESPONSE,
        ProbeFailure.REFUSED,
        ProbeFailure.UNREACHABLE,
    ]
    return min(talks, key=lambda talk: worth.index(talk.failure or ProbeFailure.NO_RESPONSE))


async def _probe(address: str, port: int, alive_name: str, timeout: float) -> EpmdProbe:
    names = await _query(address, port, protocol.encode_names(), timeout)
    if isinstance(names, ProbeFailure):
        if names in (ProbeFailure.NO_RESPONSE, ProbeFailure.CLOSED) and (
            who := await detect_service(address, port, timeout)
        ):
            return EpmdProbe(address, failure=ProbeFailure.OTHER_PROTOCOL, observed=who)
        return EpmdProbe(address, failure=names)
    where = await _query(address, port, protocol.encode_lookup(alive_name), timeout)
    if isinstance(where, ProbeFailure):
        return EpmdProbe(address, failure=where)
    try:
        if int.from_bytes(names[:4], "big") != port and not 0 < int.from_bytes(names[:4], "big") < 65536:
            raise RemoteProtocolError
        return EpmdProbe(address, protocol.decode_names_response(names), protocol.decode_lookup_response(where))
    except RemoteProtocolError:
        who = identify_protocol(names) or identify_protocol(where)
        return EpmdProbe(address, failure=ProbeFailure.OTHER_PROTOCOL, observed=who or f"it says {names[:16]!r}")


async def _query(address: str, port: int, request: bytes, timeout: float) -> bytes | ProbeFailure:
    link = await connect_socket(address, port, timeout)
    if isinstance(link, ProbeFailure):
        return link
    reader, writer = await asyncio.open_connection(sock=link)
    try:
        async with asyncio.timeout(timeout):
            writer.write(request)
            return await reader.read(1 << 20) or ProbeFailure.CLOSED
    except OSError as fault:
        return _classify_error(fault)
    finally:
        writer.close()


async def detect_service(address: str, port: int, timeout: float) -> str | None:
    """Who speaks at a port where the expected was not said: listens for a greeting, then asks as a browser would."""
    link = await connect_socket(address, port, timeout)
    if isinstance(link, ProbeFailure):
        return None
    reader, writer = await asyncio.open_connection(sock=link)
    try:
        for patience, question in ((BANNER_TIMEOUT, b""), (min(timeout, 2.0), b"HEAD / HTTP/1.0\r\n\r\n")):
            writer.write(question)
            try:
                async with asyncio.timeout(patience):
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
    """A network that carries one dialled connection, over a socket that is connected already, and keeps what came."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock: socket.socket | None = sock
        self.received = b""

    async def dial(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
        link, self._sock = self._sock, None
        if link is None:
            await super().dial(host, port, protocol)
            return
        await asyncio.get_running_loop().create_connection(lambda: _Tap(protocol(), self), sock=link)

    def close(self) -> None:
        """If nobody has dialled."""
        if self._sock is not None:
            self._sock.close()


class _Tap(asyncio.Protocol):
    """Passes everything on, and the beginning of what came to the recorder."""

    def __init__(self, protocol: asyncio.Protocol, recorder: RecordingNetwork) -> None:
        self._recorder = recorder
        self._received = protocol.data_received
        self.connection_made = protocol.connection_made  # type: ignore[method-assign]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def data_received(self, data: bytes) -> None:
        recorder = self._recorder
        if len(recorder.received) < RECORD_LIMIT:
            recorder.received += data[: RECORD_LIMIT - len(recorder.received)]
        self._received(data)
