"""Makes the protocols and channels of connections, all with the options of one node."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from erlmesh.net.dist_protocol import ConnectionDelegate, DistProtocol
from erlmesh.proto.channel import Channel
from erlmesh.proto.handshake_driver import HandshakeDriver
from erlmesh.proto.unfinished import UnfinishedBudget

if TYPE_CHECKING:
    from erlmesh.net.tls_protocol import TlsConnections
    from erlmesh.proto.control import Signal
    from erlmesh.proto.handshake import HandshakeCompleted, HandshakeSteps
    from erlmesh.proto.receive_buffer import ReceiveBudget

__all__ = ["ProtocolFactory"]


class ProtocolFactory:
    """The options of the node ``local_name`` for its connections. Its connections share the two budgets."""

    def __init__(
        self,
        local_name: str,
        *,
        net_ticktime: float,
        send_queue_limit: int,
        frame_limit: int,
        element_limit: int,
        receive_budget: ReceiveBudget,
        unfinished_receive_limit: int,
        tls: TlsConnections | None,
    ) -> None:
        """``tls`` is None if all connections are plain."""
        self._local_name = local_name
        self._net_ticktime = net_ticktime
        self._send_queue_limit = send_queue_limit
        self._frame_limit = frame_limit
        self._element_limit = element_limit
        self._receive_budget = receive_budget
        self._unfinished_budget = UnfinishedBudget(unfinished_receive_limit)
        self._tls = tls

    def make_protocol(
        self, delegate: ConnectionDelegate, steps: HandshakeSteps, started_at: float, peer: str = ""
    ) -> DistProtocol:
        """Make the protocol of a connection, which begins with the handshake ``steps``.

        The time limit of the handshake counts from ``started_at``. ``peer`` is the node that this node connects to. An
        incoming connection has no name yet.
        """
        handshake = HandshakeDriver(steps, now=started_at, tls=self._tls is not None)
        make_protocol: Callable[..., DistProtocol] = DistProtocol
        if self._tls is not None:
            make_protocol = partial(self._tls.make_protocol, host=peer.partition("@")[2])
        return make_protocol(
            handshake,
            delegate,
            send_queue_limit=self._send_queue_limit,
            receive_budget=self._receive_budget,
            unfinished_budget=self._unfinished_budget,
        )

    def make_channel(self, event: HandshakeCompleted, now: float, no_answer: Callable[[Signal], object]) -> Channel:
        """Make the channel of a connection whose handshake is complete. See :class:`Channel` for ``no_answer``."""
        return Channel(
            event.name,
            self._local_name,
            event.flags,
            now=now,
            net_ticktime=self._net_ticktime,
            max_frame=self._frame_limit,
            max_elements=self._element_limit,
            no_answer=no_answer,
        )
