"""Prevention of overlapping partitions. When two nodes lose their connection, all nodes disconnect from the lost one.

Without it, A could be connected to B and C while B and C are not connected. Then the cluster is not transitive, and
global's tables differ. The algorithm:

1. A node that loses the connection to another node sends ``{lost_connection, Reporter, XCreation, Id, Lost}`` to all
   nodes that it knows.
2. A node that gets this report for the first time forwards it to all nodes that it knows. It sends
   ``{remove_connection, Node}`` to the lost node and removes it from its partition.
3. A node that gets remove_connection closes the connection. Neither side reports this loss.

``Reporter``, ``XCreation`` and ``Id`` identify a report: the reporting node, its extended creation, and a counter.

Two rules are our own:

- If the lost node does not disconnect within ``NET_SETUPTIME_SECONDS``, we do. It may not have got the message, or
  may not know us.
- For ``LOSS_REPORT_SECONDS``, a node gets only one report of the same lost node. When one of n nodes terminates, the
  n - 1 others all report it. OTP forwards each of these reports, which makes n³ messages. This rule makes n².

Source: global.erl, header ("Prevent Overlapping Partitions Algorithm"). OTP 25 and later do this by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from erlmesh.records import field, record
from erlmesh.services.global_.protocol import (
    NET_SETUPTIME_SECONDS,
    PARTITION_VSN,
    Atoms,
    Disconnect,
    Effect,
    Recheck,
    Send,
)
from erlmesh.services.global_.sync import GlobalSync
from erlmesh.terms import Atom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Partitions"]

LOST_CONN_INFO_SECONDS: Final = 3600.0
"""How long a report is remembered, to ignore its copies (``lost_conn_info_cleanup_time`` in global.erl)."""
LOSS_REPORT_SECONDS: Final = 5.0
"""Reports of one lost node within this time are taken for the same loss. It is a little longer than they take to
arrive."""

MAX_REPORTS: Final = 20_000
"""Reports that are remembered. Above it the oldest is forgotten, so its copies would be taken for new ones."""
MAX_LOSSES: Final = 1_000
"""Losses within LOSS_REPORT_SECONDS that are told from each other."""

LostConnection: TypeAlias = tuple[Atom, Atom, int, int, Atom]
"""``{lost_connection, Reporter, XCreation, Id, Lost}``."""


@record
class _LossReport:
    """One loss of a node, which several nodes report."""

    expires_at: float
    """Node time at which a further report is taken for a new loss."""
    reporters: set[Atom] = field(default_factory=set)
    """Nodes that reported it."""
    informed: set[Atom] = field(default_factory=set)
    """Nodes that know of it: they reported it, or we reported it to them."""
    complete_at: int = -1
    """All nodes that we knew were informed when ``GlobalSync.additions`` had this value."""


class Partitions:
    """What a lost connection means for the other nodes. No I/O.

    ``enabled`` is OTP's kernel parameter ``prevent_overlapping_partitions``.
    """

    def __init__(
        self,
        sync: GlobalSync,
        *,
        extended_creation: int,
        enabled: bool = True,
        connected: Callable[[], Iterable[Atom]] | None = None,
    ) -> None:
        """``extended_creation`` is an integer that no other incarnation of this node has. A creation alone may
        repeat. ``connected`` returns the connected nodes; without it, all known nodes count as connected.
        """
        self.enabled = enabled
        self._connected = connected
        self._sync = sync
        self._extended_creation = extended_creation
        # The counter of our own reports.
        self._loss_count = 0
        # Nodes whose connection is about to close. The value is True if the two nodes could still reach each other and
        # disconnect only because another node lost the connection. Their nodedown is not reported.
        self._removing: dict[Atom, bool] = {}
        # (reporter, lost node) → (extended creation, counter, expiry) of the last report. Oldest first.
        self._seen_reports: dict[tuple[Atom, Atom], tuple[int, int, float]] = {}
        # Lost node → its current loss. Oldest first.
        self._loss_reports: dict[Atom, _LossReport] = {}

    def nodeup(self, node: Atom) -> list[Effect]:
        """A visible node is connected.

        If it was removed while the connection was still being set up, it has not got our remove_connection. Send it
        again.
        """
        self._loss_reports.pop(node, None)  # Its next loss is a new one.
        for loss_report in self._loss_reports.values():
            loss_report.informed.discard(node)  # It may be a new incarnation, which knows nothing.
            loss_report.complete_at = -1
        if node in self._removing:
            return [Send(node, (Atoms.REMOVE_CONNECTION, self._sync.own_node)), Recheck(node, NET_SETUPTIME_SECONDS)]
        return self._sync.nodeup(node)

    def nodedown(self, node: Atom, now: float) -> list[Effect]:
        """The connection to ``node`` is lost, or a connection that we had to make has failed.

        Report it, unless it was closed on purpose.
        """
        recipients = self._partition_peers(node)
        effects = self._sync.remove_node(node)
        if node in self._removing:
            del self._removing[node]
        elif self.enabled:
            self._loss_count += 1
            effects += self._report_loss(
                (Atoms.LOST_CONNECTION, self._sync.own_node, self._extended_creation, self._loss_count, node),
                recipients,
                now,
            )
        return effects

    def lost_connection(
        self, reporter: Atom, extended_creation: int, loss_id: int, lost: Atom, now: float
    ) -> list[Effect]:
        """Handle the report of ``reporter`` that it lost the connection to ``lost``.

        Forward it, and remove the lost node from our partition. A report that we have seen is ignored.
        """
        if not self.enabled or not self._is_new_report(reporter, lost, extended_creation, loss_id, now):
            return []
        effects = self._report_loss((Atoms.LOST_CONNECTION, reporter, extended_creation, loss_id, lost), None, now)
        # If the reporter lost the connection to this node, our side of it is about to go down too. Remove the reporter
        # now. Its loss is then not reported by us, so the other nodes keep their connections to it.
        to_remove = reporter if lost == self._sync.own_node else lost
        self._sync.forget_known(to_remove)
        if not self._sync.is_potentially_known(to_remove):
            return effects
        overlap = to_remove == lost
        # A node of an old version does not know remove_connection.
        if self._sync.node_vsn(to_remove) < PARTITION_VSN:
            return [
                *effects,
                Disconnect(to_remove, "disconnected old"),
                *self._mark_removing(to_remove, overlap=overlap),
            ]
        return effects + self._request_removal(to_remove, overlap=overlap)

    def remove_connection(self, node: Atom) -> list[Effect]:
        """``node`` asks us to disconnect.

        ``synced`` counts too: ``node`` was informed of us and sent in_sync, but we may not have been informed of it.
        """
        if not self._sync.is_potentially_known(node) and node not in self._sync.synced:
            return []
        return [Disconnect(node, "disconnected"), *self._mark_removing(node)]

    def recheck(self, node: Atom, *, connected: bool) -> list[Effect]:
        """The time for ``node`` is over: to disconnect after remove_connection, or to be introduced after in_sync.

        If it is still connected, disconnect it, or ask it to disconnect.
        """
        if node not in self._removing:
            return self._request_removal(node) if connected and self._sync.is_not_introduced(node) else []
        if connected:
            return [Disconnect(node, "disconnected")]
        del self._removing[node]
        return []

    def removing(self) -> list[Atom]:
        """The nodes whose connection is about to close and is not reported as lost."""
        return list(self._removing)

    def is_overlap_disconnect(self, node: Atom) -> bool:
        """True if ``node`` is reachable and is disconnected only because another node lost it."""
        return self._removing.get(node, False)

    def _request_removal(self, node: Atom, *, overlap: bool = True) -> list[Effect]:
        """Ask ``node`` to disconnect, check it later, and remove it from our partition."""
        effects: list[Effect] = [
            Send(node, (Atoms.REMOVE_CONNECTION, self._sync.own_node)),
            Recheck(node, NET_SETUPTIME_SECONDS),
        ]
        return [*effects, *self._mark_removing(node, overlap=overlap)]

    def _mark_removing(self, node: Atom, *, overlap: bool = True) -> list[Effect]:
        """Remove ``node`` from our partition. Its nodedown will not be reported."""
        self._removing[node] = overlap
        return self._sync.remove_node(node)

    def _report_loss(self, report: LostConnection, recipients: list[Atom] | None, now: float) -> list[Effect]:
        """Send ``report`` to those of ``recipients`` that do not know of this loss yet.

        Without ``recipients``, they are all other nodes but the reporter.
        """
        _, reporter, _, _, lost = report
        loss_report = self._loss_report(lost, reporter, now)
        # When one of n nodes is lost, n - 1 reports arrive. Only the first must look at all nodes.
        if recipients is None and loss_report.complete_at == self._sync.additions:
            return []
        if recipients is None:
            recipients = self._partition_peers(reporter)
        effects: list[Effect] = [Send(other, report) for other in recipients if other not in loss_report.informed]
        loss_report.informed.update(recipients)
        loss_report.complete_at = self._sync.additions
        return effects

    def _loss_report(self, lost: Atom, reporter: Atom, now: float) -> _LossReport:
        """The loss that this report belongs to.

        A second report from the same reporter is a new loss: the reporter was connected to the node in between.
        """
        loss_report = self._loss_reports.get(lost)
        if loss_report is None or loss_report.expires_at <= now or reporter in loss_report.reporters:
            self._loss_reports.pop(lost, None)  # A new entry is the last: all expire after the same time.
            while self._loss_reports and self._is_first_loss_over(now):
                del self._loss_reports[next(iter(self._loss_reports))]
            loss_report = self._loss_reports[lost] = _LossReport(now + LOSS_REPORT_SECONDS)
        loss_report.reporters.add(reporter)
        loss_report.informed.add(reporter)
        return loss_report

    def _is_first_loss_over(self, now: float) -> bool:
        return len(self._loss_reports) >= MAX_LOSSES or next(iter(self._loss_reports.values())).expires_at <= now

    def _partition_peers(self, node: Atom) -> list[Atom]:
        """The other connected nodes that understand lost_connection.

        OTP sends a report to all known nodes. A peer may introduce thousands that cannot be reached, and each attempt
        that fails is reported. A node that is still being connected gets the report from the node that introduced it,
        which forwards it.
        """
        known, pending = self._sync.known, self._sync.pending
        others = {**known, **pending} if self._connected is None else self._connected()
        return [
            other for other in others if (pending.get(other) or known.get(other, 0)) >= PARTITION_VSN and other != node
        ]

    def _is_new_report(self, reporter: Atom, lost: Atom, extended_creation: int, loss_id: int, now: float) -> bool:
        """True if the report has not been seen. It is remembered then, and expired ones are removed.

        Within one extended creation the counter only grows, so a lower or equal one is a copy.
        """
        last_seen = self._seen_reports.get((reporter, lost))
        if (
            last_seen is not None
            and last_seen[0] == extended_creation
            and loss_id <= last_seen[1]
            and now < last_seen[2]
        ):
            return False
        self._seen_reports.pop((reporter, lost), None)
        while self._seen_reports and (
            len(self._seen_reports) >= MAX_REPORTS or next(iter(self._seen_reports.values()))[2] <= now
        ):
            del self._seen_reports[next(iter(self._seen_reports))]
        self._seen_reports[reporter, lost] = (extended_creation, loss_id, now + LOST_CONN_INFO_SECONDS)
        return True
