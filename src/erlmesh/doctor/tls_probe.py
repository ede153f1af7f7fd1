"""Read this node's TLS files, and try a TLS connection with another node."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from erlmesh.certs.certificate import CertificateInfo, pem_certificates, read_certificate
from erlmesh.doctor.certificate_checks import OwnCertificate, TlsOutcome
from erlmesh.doctor.findings import ProbeFailure
from erlmesh.doctor.handshake_checks import parse_handshake
from erlmesh.doctor.probes import connect_socket
from erlmesh.errors import CertificateError, NodeStartError
from erlmesh.net.tls_config import TlsConfig
from erlmesh.net.tls_contexts import TlsContexts
from erlmesh.proto import handshake_packets as packets
from erlmesh.proto.flags import OFFERED
from erlmesh.records import record

__all__ = ["TlsEndpoint", "probe_tls", "read_own_certificate"]

_SETTLING_TIME: Final = 1.0
"""Seconds to wait for an answer inside TLS. A node that says nothing in this time has not refused our certificate."""


def read_own_certificate(config: TlsConfig) -> OwnCertificate:
    """Read the files of ``config``, and verify our certificate with our own CAs as another node does it."""
    try:
        contexts = TlsContexts(config).load()
        ours, *_ = pem_certificates(Path(config.cert).read_bytes())
        info = read_certificate(ours)
        authorities = [read_certificate(each).subject for each in pem_certificates(Path(config.ca).read_bytes())]
    except (NodeStartError, CertificateError) as error:
        return OwnCertificate(str(error))
    except (OSError, ValueError) as error:
        return OwnCertificate(f"the TLS files cannot be read: {error}")
    mode = Path(config.key).stat().st_mode
    code = _verify_code(contexts.initiating, contexts.accepting)
    return OwnCertificate("", info, authorities, code, str(config.key), bool(stat.S_IMODE(mode) & 0o007))


def _verify_code(initiating: ssl.SSLContext, accepting: ssl.SSLContext) -> int:
    """Connect with ourselves in memory. Return the problem that either side finds in the certificate of the other."""
    one_way, other_way = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [initiating.wrap_bio(one_way, other_way), accepting.wrap_bio(other_way, one_way, server_side=True)]
    for _ in range(4):  # more than the flights of a handshake
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_code
            except ssl.SSLError:
                return 0  # it is about something else, and the connection with the node shows it
    return 0


@record(frozen=True)
class TlsEndpoint:
    """The node to connect to, and the name to say."""

    address: str
    port: int
    host: str
    """The host of the node name. It is sent as the server name, and not compared with the certificate here."""
    our_name: str
    timeout: float
    """Seconds for each attempt."""


async def probe_tls(endpoint: TlsEndpoint, config: TlsConfig) -> TlsOutcome:
    """Connect to a node with TLS, say our name, and see whether each side accepts the certificate of the other."""
    context = TlsContexts(config).load().initiating
    outcome = await _attempt(endpoint, context)
    if outcome.verify_code:
        context.verify_mode = ssl.CERT_NONE  # it was refused: connect once more to read it
        info = (await _attempt(endpoint, context)).info
        return TlsOutcome(None, info, outcome.verify_code, outcome.verify_message)
    if outcome.version is None and outcome.alert in (None, "UNEXPECTED_MESSAGE"):
        is_plain = await _answers_plain(endpoint)
        return TlsOutcome(alert=outcome.alert, error=outcome.error, is_plain=is_plain)
    return outcome


async def _attempt(endpoint: TlsEndpoint, context: ssl.SSLContext) -> TlsOutcome:
    sock = await connect_socket(endpoint.address, endpoint.port, endpoint.timeout)
    if isinstance(sock, ProbeFailure):
        return TlsOutcome(error=f"the port does not accept a second connection ({sock.value})")
    conversation = _Conversation(sock, context, endpoint.host)
    try:
        async with asyncio.timeout(endpoint.timeout):
            await conversation.shake_hands()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(endpoint.timeout, _SETTLING_TIME)):
                await conversation.ask(packets.encode_name(OFFERED, 1, endpoint.our_name))
        return TlsOutcome(conversation.version, conversation.info)
    except ssl.SSLCertVerificationError as error:
        return TlsOutcome(verify_code=error.verify_code, verify_message=error.verify_message)
    except ssl.SSLError as error:
        return _failed_outcome(error, conversation.info)
    except TimeoutError:
        return TlsOutcome(error=f"the node says nothing for {endpoint.timeout:g} s")
    except OSError as error:
        return TlsOutcome(error=error.strerror or str(error))
    finally:
        sock.close()


def _failed_outcome(error: ssl.SSLError, info: CertificateInfo | None) -> TlsOutcome:
    reason = error.reason or ""
    _, is_alert, alert = reason.partition("ALERT_")
    described = reason.replace("_", " ").lower() or str(error)
    return TlsOutcome(info=info, alert=alert if is_alert else None, error=described)


class _Conversation:
    """TLS on a socket that does not block. Errors are those of :mod:`ssl`, and OSError."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        except ValueError:  # not a host name of the DNS
            self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self.version: str | None = None
        self.info: CertificateInfo | None = None
        """The certificate of the peer. OpenSSL no longer has it when the peer has refused ours."""

    async def shake_hands(self) -> None:
        await self._run(self._tls.do_handshake)
        self.version = self._tls.version()
        with contextlib.suppress(CertificateError):
            self.info = read_certificate(self._tls.getpeercert(binary_form=True) or b"")

    async def ask(self, packet: bytes) -> None:
        """Send a packet of the handshake of the distribution, and wait for the first byte of the answer."""
        self._tls.write(len(packet).to_bytes(4, "big") + packet)
        await self._run(lambda: self._tls.read(1))

    async def _run(self, step: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                step()
                return
            except ssl.SSLWantReadError:
                await self._flush()
                received = await loop.sock_recv(self._sock, 1 << 16)
                if not received:
                    raise ConnectionResetError("the node closed the connection") from None
                self._incoming.write(received)
            finally:
                await self._flush()  # after an error it is the alert that tells the node why

    async def _flush(self) -> None:
        if ciphertext := self._outgoing.read():
            with contextlib.suppress(ConnectionError):
                await asyncio.get_running_loop().sock_sendall(self._sock, ciphertext)


async def _answers_plain(endpoint: TlsEndpoint) -> bool:
    """Say our name without TLS. Return true if a node answers."""
    sock = await connect_socket(endpoint.address, endpoint.port, endpoint.timeout)
    if isinstance(sock, ProbeFailure):
        return False
    packet = packets.encode_name(OFFERED, 1, endpoint.our_name)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(endpoint.timeout):
            await loop.sock_sendall(sock, len(packet).to_bytes(2, "big") + packet)
            received = await loop.sock_recv(sock, 256)
        return parse_handshake(received).status is not None
    except OSError:
        return False
    finally:
        sock.close()
