"""No overlapping partitions: who has lost a connection is left by all, so that everybody sees whole clusters only.

1. A node that loses the connection to another tells it to all it knows: ``lost_connection``.
2. Who hears this for the first time passes it on, asks the lost node to hang up (``remove_connection``) and forgets it.
3. Who is asked hangs up. Neither of the two announces that end as a loss.

Two things are our own. Who was asked and did not hang up, because it heard nothing or does not know us, is hung up on.
And nobody is told twice in a short while that the same node is lost: when one of n nodes dies the others all report it,
and if each passed on every report of the others, as OTP's does, that would be n³ messages and not n².

(The header of OTP's global.erl, "Prevent Overlapping Partitions Algorithm".)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

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

__all__ = ["Partitions"]

LOST_CONN_INFO_SECONDS: Final = 3600.0  # global.erl: lost_conn_info_cleanup_time
LOSS_REPORT_SECONDS: Final = 5.0
"""How long reports of one node's loss are taken to be of the same one: a little longer than they take to arrive."""

LostConnection: TypeAlias = tuple[Atom, Atom, int, int, Atom]


@dataclass(slots=True)
class _LossReport:
    """One loss of a node, reported by many."""

    expires_at: float
    reporters: set[Atom] = field(default_factory=set)
    informed: set[Atom] = field(default_factory=set)
    """Those who reported it, and those whom we told."""


class Partitions:
    """Pure: what losses mean. ``enabled`` is OTP's kernel parameter ``prevent_overlapping_partitions``."""

    def __init__(self, sync: GlobalSync, *, extended_creation: int, enabled: bool = True) -> None:
        """``life`` is any integer that no other life of this node has: OTP's extended creation."""
        self.enabled = enabled
        self._sync = sync
        self._extended_creation = extended_creation
        self._loss_count = 0
        self._removing: dict[Atom, bool] = {}  # whether for the sake of others
        self._seen_reports: dict[
            tuple[Atom, Atom], tuple[int, int, float]
        ] = {}  # (life, loss, when to forget), oldest first
        self._loss_reports: dict[Atom, _LossReport] = {}

    def nodeup(self, node: Atom) -> list[Effect]:
        """A visible node is connected; if it was to be left while we were still connecting, it could not hear us."""
        self._loss_reports.pop(node, None)  # its next loss is news for everybody
        for farewell in self._loss_reports.values():
            farewell.informed.discard(node)  # it may live anew
        if node in self._removing:
            return [Send(node, (Atoms.REMOVE_CONNECTION, self._sync.own_node)), Recheck(node, NET_SETUPTIME_SECONDS)]
        return self._sync.nodeup(node)

    def nodedown(self, node: Atom, now: float) -> list[Effect]:
        """The connection to ``node`` is gone, or one that had to be could not be made."""
        others = self._partition_peers(node)
        effects = self._sync.remove_node(node)
        if node in self._removing:
            del self._removing[node]
        elif self.enabled:
            self._loss_count += 1
            effects += self._report_loss(
                (Atoms.LOST_CONNECTION, self._sync.own_node, self._extended_creation, self._loss_count, node),
                others,
                now,
            )
        return effects

    def lost_connection(
        self, reporter: Atom, extended_creation: int, loss_id: int, lost: Atom, now: float
    ) -> list[Effect]:
        """``reporter`` says that it lost ``lost``. News travel on to everybody, whoever is lost is left."""
        if not self.enabled or not self._is_new_report(reporter, lost, extended_creation, loss_id, now):
            return []
        effects = self._report_loss(
            (Atoms.LOST_CONNECTION, reporter, extended_creation, loss_id, lost), self._partition_peers(reporter), now
        )
        # Whoever lost us is about to be lost to us: hurry that on, and do not make others leave him too.
        leave = reporter if lost == self._sync.own_node else lost
        self._sync.forget_known(leave)
        if not self._sync.is_potentially_known(leave):
            return effects
        for_others = leave == lost
        if self._sync.node_vsn(leave) < PARTITION_VSN:
            return [*effects, Disconnect(leave, "disconnected old"), *self._mark_removing(leave, overlap=for_others)]
        return effects + self._request_removal(leave, overlap=for_others)

    def remove_connection(self, node: Atom) -> list[Effect]:
        """``node`` asks us to hang up. It may be one that was told of us while we have not been told of it."""
        if not self._sync.is_potentially_known(node) and node not in self._sync.synced:
            return []
        return [Disconnect(node, "disconnected"), *self._mark_removing(node)]

    def recheck(self, node: Atom, *, connected: bool) -> list[Effect]:
        """The time is over for ``node``: to hang up, if it is still to leave us; or to have been introduced."""
        if node not in self._removing:
            return self._request_removal(node) if connected and self._sync.is_not_introduced(node) else []
        if connected:
            return [Disconnect(node, "disconnected")]
        del self._removing[node]
        return []

    def removing(self) -> list[Atom]:
        """Nodes whose connection is about to end without being announced."""
        return list(self._removing)

    def is_overlap_disconnect(self, node: Atom) -> bool:
        """Whether that connection is about to end although the two nodes could reach each other."""
        return self._removing.get(node, False)

    def _request_removal(self, node: Atom, *, overlap: bool = True) -> list[Effect]:
        ask: list[Effect] = [
            Send(node, (Atoms.REMOVE_CONNECTION, self._sync.own_node)),
            Recheck(node, NET_SETUPTIME_SECONDS),
        ]
        return [*ask, *self._mark_removing(node, overlap=overlap)]

    def _mark_removing(self, node: Atom, *, overlap: bool = True) -> list[Effect]:
        self._removing[node] = overlap
        return self._sync.remove_node(node)

    def _report_loss(self, report: LostConnection, recipients: list[Atom], now: float) -> list[Effect]:
        """``news`` for those of ``others`` who do not know yet."""
        _, reporter, _, _, lost = report
        farewell = self._loss_report(lost, reporter, now)
        effects: list[Effect] = [Send(other, report) for other in recipients if other not in farewell.informed]
        farewell.informed.update(recipients)
        return effects

    def _loss_report(self, lost: Atom, reporter: Atom, now: float) -> _LossReport:
        """The one this report belongs to; who reports a loss again had the node back in between: a new one begins."""
        farewell = self._loss_reports.get(lost)
        if farewell is None or farewell.expires_at <= now or reporter in farewell.reporters:
            self._loss_reports = {node: each for node, each in self._loss_reports.items() if each.expires_at > now}
            farewell = self._loss_reports[lost] = _LossReport(now + LOSS_REPORT_SECONDS)
        farewell.reporters.add(reporter)
        farewell.informed.add(reporter)
        return farewell

    def _partition_peers(self, node: Atom) -> list[Atom]:
        everybody = {**self._sync.known, **self._sync.pending}
        return [other for other, vsn in everybody.items() if vsn >= PARTITION_VSN and other != node]

    def _is_new_report(self, reporter: Atom, lost: Atom, extended_creation: int, loss_id: int, now: float) -> bool:
        heard = self._seen_reports.get((reporter, lost))
        if heard is not None and heard[0] == extended_creation and loss_id <= heard[1] and now < heard[2]:
            return False
        self._seen_reports.pop((reporter, lost), None)
        while self._seen_reports and next(iter(self._seen_reports.values()))[2] <= now:
            del self._seen_reports[next(iter(self._seen_reports))]
        self._seen_reports[reporter, lost] = (extended_creation, loss_id, now + LOST_CONN_INFO_SECONDS)
        return True
