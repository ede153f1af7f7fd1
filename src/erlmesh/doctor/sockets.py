"""Looks at hosts and ports with a stop-watch: addresses, EPMD, and who speaks there."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from erlmesh.doctor.findings import Fault
from erlmesh.doctor.greeting import foreign_tongue
from erlmesh.errors import RemoteProtocolError
from erlmesh.net.network import TcpNetwork
from erlmesh.proto import epmd as protocol

__all__ = ["EpmdTalk", "Recorder", "connect", "look_up_host", "talk_to_epmd", "who_is_there"]

RECORDED = 1 << 12
GREETING = 0.3
"""Seconds for a server that speaks first."""


async def look_up_host(host: str, timeout: float) -> tuple[list[str], str]:
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


async def connect(address: str, port: int, timeout: float) -> socket.socket | Fault:
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
            return _fault(fault)
        raise
    return link


def _fault(fault: OSError) -> Fault:
    if isinstance(fault, ConnectionRefusedError):
        return Fault.REFUSED
    if isinstance(fault, TimeoutError):
        return Fault.SILENT
    if isinstance(fault, ConnectionError):
        return Fault.CLOSED
    return Fault.UNREACHABLE if fault.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH) else Fault.SILENT


@dataclass(frozen=True, slots=True)
class EpmdTalk:
    """What an EPMD told, or why it did not."""

    address: str
    names: dict[str, int] | None = None
    where: protocol.PortInfo | None = None
    fault: Fault | None = None
    saw: str = ""


async def talk_to_epmd(addresses: Sequence[str], port: int, alive: str, timeout: float) -> EpmdTalk:
    """Asks the first of ``addresses`` that answers as an EPMD for its names, and for the node ``alive``."""
    talks = []
    for address in addresses:
        talk = await _talk(address, port, alive, timeout)
        if talk.names is not None:
            return talk
        talks.append(talk)
    worth = [Fault.FOREIGN, Fault.CLOSED, Fault.SILENT, Fault.REFUSED, Fault.UNREACHABLE]
    return min(talks, key=lambda talk: worth.index(talk.fault or Fault.SILENT))


async def _talk(address: str, port: int, alive: str, timeout: float) -> EpmdTalk:
    names = await _ask(address, port, protocol.encode_names(), timeout)
    if isinstance(names, Fault):
        if names in (Fault.SILENT, Fault.CLOSED) and (who := await who_is_there(address, port, timeout)):
            return EpmdTalk(address, fault=Fault.FOREIGN, saw=who)
        return EpmdTalk(address, fault=names)
    where = await _ask(address, port, protocol.encode_lookup(alive), timeout)
    if isinstance(where, Fault):
        return EpmdTalk(address, fault=where)
    try:
        if int.from_bytes(names[:4], "big") != port and not 0 < int.from_bytes(names[:4], "big") < 65536:
            raise RemoteProtocolError
        return EpmdTalk(address, protocol.decode_names_response(names), protocol.decode_lookup_response(where))
    except RemoteProtocolError:
        who = foreign_tongue(names) or foreign_tongue(where)
        return EpmdTalk(address, fault=Fault.FOREIGN, saw=who or f"it says {names[:16]!r}")


async def _ask(address: str, port: int, request: bytes, timeout: float) -> bytes | Fault:
    link = await connect(address, port, timeout)
    if isinstance(link, Fault):
        return link
    reader, writer = await asyncio.open_connection(sock=link)
    try:
        async with asyncio.timeout(timeout):
            writer.write(request)
            return await reader.read(1 << 20) or Fault.CLOSED
    except OSError as fault:
        return _fault(fault)
    finally:
        writer.close()


async def who_is_there(address: str, port: int, timeout: float) -> str | None:
    """Who speaks at a port where the expected was not said: listens for a greeting, then asks as a browser would."""
    link = await connect(address, port, timeout)
    if isinstance(link, Fault):
        return None
    reader, writer = await asyncio.open_connection(sock=link)
    try:
        for patience, question in ((GREETING, b""), (min(timeout, 2.0), b"HEAD / HTTP/1.0\r\n\r\n")):
            writer.write(question)
            try:
                async with asyncio.timeout(patience):
                    data = await reader.read(256)
            except TimeoutError:
                continue
            return foreign_tongue(data)
    except OSError:
        return None
    finally:
        writer.close()
    return None


class Recorder(TcpNetwork):
    """A network that carries one dialled connection, over a socket that is connected already, and keeps what came."""

    def __init__(self, link: socket.socket) -> None:
        self._link: socket.socket | None = link
        self.received = b""

    async def dial(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
        link, self._link = self._link, None
        if link is None:
            await super().dial(host, port, protocol)
            return
        await asyncio.get_running_loop().create_connection(lambda: _Tap(protocol(), self), sock=link)

    def close(self) -> None:
        """If nobody has dialled."""
        if self._link is not None:
            self._link.close()


class _Tap(asyncio.Protocol):
    """Passes everything on, and the beginning of what came to the recorder."""

    def __init__(self, protocol: asyncio.Protocol, recorder: Recorder) -> None:
        self._recorder = recorder
        self._received = protocol.data_received
        self.connection_made = protocol.connection_made  # type: ignore[method-assign]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def data_received(self, data: bytes) -> None:
        recorder = self._recorder
        if len(recorder.received) < RECORDED:
            recorder.received += data[: RECORDED - len(recorder.received)]
        self._received(data)
