"""Which incoming connections may go on with their handshake, and when their digest is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from erlmesh.core.fair_share import FairShare
from erlmesh.core.guess_limiter import GuessLimiter
from erlmesh.net.acceptor import share_of_descriptors
from erlmesh.proto.handshake import WrongCookie

if TYPE_CHECKING:
    from erlmesh.core.allow_list import AllowList
    from erlmesh.errors import ErlmeshError
    from erlmesh.net.dist_protocol import DistProtocol
    from erlmesh.net.tls_protocol import TlsConnections
    from erlmesh.runtime.connection import Connection

__all__ = ["Admission"]


class Admission:
    """What a node requires of an incoming connection before its handshake is complete, and how many have this state.

    ``handshake_limit`` and ``handshakes_per_address`` are numbers of handshakes at the same time. ``guess_delay`` is in
    seconds. ``tls`` is None if all connections are plain.
    """

    def __init__(
        self,
        allow_list: AllowList,
        *,
        tls: TlsConnections | None,
        handshake_limit: int,
        handshakes_per_address: int,
        guess_delay: float,
    ) -> None:
        self._allow_list = allow_list
        self._tls = tls
        self.pending: FairShare[DistProtocol] = FairShare(share_of_descriptors(handshake_limit), handshakes_per_address)
        """Incoming connections whose handshake is not complete."""
        self._guesses = GuessLimiter(guess_delay)

    def opened(self, protocol: DistProtocol) -> DistProtocol | None:
        """An incoming connection is there. Return the one that must go for it; None if there is room."""
        return self.pending.add(protocol, protocol.address_group)

    def ended(self, protocol: DistProtocol) -> None:
        """The handshake has ended, or the connection has. It may be any connection, and ended before."""
        self.pending.discard(protocol)

    def allows(self, connection: Connection, name: str) -> bool:
        """Return whether a node may connect with this name. If not, ``connection.refusal`` may say why."""
        if not self._allow_list.allows(name):
            return False
        if self._tls is not None:
            is_restricted = bool(self._allow_list.entries)
            connection.refusal = self._tls.refusal(connection.protocol, name, is_restricted=is_restricted)
        return connection.refusal is None

    def wait_before_check(self, connection: Connection, name: str, now: float) -> float | None:
        """The peer has sent its digest. See :meth:`GuessLimiter.wait_before_check`."""
        address = "" if connection.protocol is None else connection.protocol.address_group
        return self._guesses.wait_before_check(address, name, now)

    def proved(self, protocol: DistProtocol, name: str) -> None:
        """The peer knows the cookie."""
        self._guesses.proved(protocol.address_group, name)

    def failed(self, protocol: DistProtocol, error: ErlmeshError, now: float) -> None:
        """The handshake has failed."""
        if isinstance(error, WrongCookie):
            self._guesses.failed(protocol.address_group, error.name, now)
