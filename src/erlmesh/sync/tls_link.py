"""An established connection with TLS. Frames are encrypted when the socket can take them."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from erlmesh.net.tls_errors import stream_error
from erlmesh.net.tls_session import TlsSession
from erlmesh.proto.channel import Channel, ConnectionLost, Event
from erlmesh.proto.handshake import HandshakeCompleted
from erlmesh.sync.peer_link import BUSY, READ_SIZE, PeerLink

__all__ = ["TlsLink"]


ENCRYPTED_AT_ONCE: Final = 256 * 1024
"""Bytes to encrypt before the socket takes them. What waits is not copied."""


class TlsLink(PeerLink):
    """A :class:`PeerLink` whose bytes pass ``session``."""

    def __init__(
        self,
        sock: socket.socket,
        channel: Channel,
        completed: HandshakeCompleted,
        trailing: bytes,
        session: TlsSession,
    ) -> None:
        super().__init__(sock, channel, completed, trailing)
        self._session = session
        self._ciphertext = b""
        """What the socket did not take yet."""

    @property
    def queued(self) -> int:
        return self.channel.wire.queued + len(self._ciphertext) + self._session.has_outgoing

    def read(self, now: float) -> list[Event]:
        session = self._session
        try:
            data = self.sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            return [ConnectionLost("connection_closed", stream_error(error))]
        events = self.channel.receive_data(session.receive(data), now)
        if session.error is not None:
            events.append(ConnectionLost("connection_closed", stream_error(session.error)))
        elif not data or session.is_ended:
            events.append(ConnectionLost("connection_closed", "the peer closed the connection"))
        return events

    def flush(self, now: float) -> bool:
        wire = self.channel.wire
        try:
            while self._ciphertext or self._encrypt_next():
                size = self.sock.send(self._ciphertext)
                self._ciphertext = self._ciphertext[size:]
                self.channel.note_write(size, now)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            wire.clear()
            self._ciphertext = b""
            return False
        except BaseException:  # Ctrl-C, perhaps between the encryption of data and its removal from the queue
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)  # the reader sees the end
            raise
        if self.queued >= BUSY:
            self.busy = True
        elif self.busy and self.queued < BUSY // 2:
            self.release_senders()
        return not self.queued

    def _encrypt_next(self) -> bool:
        """Encrypt the oldest data that waits. False if none does."""
        wire, session, done = self.channel.wire, self._session, 0
        for buffer in wire.buffers():
            piece = bytes(buffer[: ENCRYPTED_AT_ONCE - done])
            session.encrypt(piece)
            done += len(piece)
            if done == ENCRYPTED_AT_ONCE:
                break
        wire.advance(done)
        self._ciphertext = session.take_outgoing()
        return bool(self._ciphertext)
