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

from erlmesh.services.global_protocol import PARTITION_VSN, PATIENCE_SECONDS, Disconnect, Effect, Recheck, Tell, Word
from erlmesh.services.global_sync import GlobalSync
from erlmesh.terms import Atom

__all__ = ["Partitions"]

MEMORY_SECONDS: Final = 3600.0  # global.erl: lost_conn_info_cleanup_time
FAREWELL_SECONDS: Final = 5.0
"""How long reports of one node's loss are taken to be of the same one: a little longer than they take to arrive."""

LostConnection: TypeAlias = tuple[Atom, Atom, int, int, Atom]


@dataclass(slots=True)
class _Farewell:
    """One loss of a node, reported by many."""

    until: float
    reporters: set[Atom] = field(default_factory=set)
    know: set[Atom] = field(default_factory=set)
    """Those who reported it, and those whom we told."""


class Partitions:
    """Pure: what losses mean. ``enabled`` is OTP's kernel parameter ``prevent_overlapping_partitions``."""

    def __init__(self, sync: GlobalSync, *, life: int, enabled: bool = True) -> None:
        """``life`` is any integer that no other life of this node has: OTP's extended creation."""
        self.enabled = enabled
        self._sync = sync
        self._life = life
        self._losses = 0
        self._removing: dict[Atom, bool] = {}  # whether for the sake of others
        self._heard: dict[tuple[Atom, Atom], tuple[int, int, float]] = {}  # (life, loss, when to forget), oldest first
        self._farewells: dict[Atom, _Farewell] = {}

    def nodeup(self, node: Atom) -> list[Effect]:
        """A visible node is connected; if it was to be left while we were still connecting, it could not hear us."""
        self._farewells.pop(node, None)  # its next loss is news for everybody
        for farewell in self._farewells.values():
            farewell.know.discard(node)  # it may live anew
        if node in self._removing:
            return [Tell(node, (Word.REMOVE_CONNECTION, self._sync.own)), Recheck(node, PATIENCE_SECONDS)]
        return self._sync.nodeup(node)

    def nodedown(self, node: Atom, now: float) -> list[Effect]:
        """The connection to ``node`` is gone, or one that had to be could not be made."""
        others = self._others(node)
        effects = self._sync.forget(node)
        if node in self._removing:
            del self._removing[node]
        elif self.enabled:
            self._losses += 1
            effects += self._tell((Word.LOST_CONNECTION, self._sync.own, self._life, self._losses, node), others, now)
        return effects

    def lost_connection(self, reporter: Atom, life: int, loss: int, lost: Atom, now: float) -> list[Effect]:
        """``reporter`` says that it lost ``lost``. News travel on to everybody, whoever is lost is left."""
        if not self.enabled or not self._is_news(reporter, lost, life, loss, now):
            return []
        effects = self._tell((Word.LOST_CONNECTION, reporter, life, loss, lost), self._others(reporter), now)
        # Whoever lost us is about to be lost to us: hurry that on, and do not make others leave him too.
        leave = reporter if lost == self._sync.own else lost
        self._sync.unlearn(leave)
        if not self._sync.is_potentially_known(leave):
            return effects
        for_others = leave == lost
        if self._sync.vsn(leave) < PARTITION_VSN:
            return [*effects, Disconnect(leave, "disconnected old"), *self._remove(leave, for_others=for_others)]
        return effects + self._be_left_by(leave, for_others=for_others)

    def remove_connection(self, node: Atom) -> list[Effect]:
        """``node`` asks us to hang up. It may be one that was told of us while we have not been told of it."""
        if not self._sync.is_potentially_known(node) and node not in self._sync.synced:
            return []
        return [Disconnect(node, "disconnected"), *self._remove(node)]

    def recheck(self, node: Atom, *, connected: bool) -> list[Effect]:
        """The time is over for ``node``: to hang up, if it is still to leave us; or to have been introduced."""
        if node not in self._removing:
            return self._be_left_by(node) if connected and self._sync.is_unannounced(node) else []
        if connected:
            return [Disconnect(node, "disconnected")]
        del self._removing[node]
        return []

    def removing(self) -> list[Atom]:
        """Nodes whose connection is about to end without being announced."""
        return list(self._removing)

    def is_left_for_others(self, node: Atom) -> bool:
        """Whether that connection is about to end although the two nodes could reach each other."""
        return self._removing.get(node, False)

    def _be_left_by(self, node: Atom, *, for_others: bool = True) -> list[Effect]:
        ask: list[Effect] = [Tell(node, (Word.REMOVE_CONNECTION, self._sync.own)), Recheck(node, PATIENCE_SECONDS)]
        return [*ask, *self._remove(node, for_others=for_others)]

    def _remove(self, node: Atom, *, for_others: bool = True) -> list[Effect]:
        self._removing[node] = for_others
        return self._sync.forget(node)

    def _tell(self, news: LostConnection, others: list[Atom], now: float) -> list[Effect]:
        """``news`` for those of ``others`` who do not know yet."""
        _, reporter, _, _, lost = news
        farewell = self._farewell(lost, reporter, now)
        effects: list[Effect] = [Tell(other, news) for other in others if other not in farewell.know]
        farewell.know.update(others)
        return effects

    def _farewell(self, lost: Atom, reporter: Atom, now: float) -> _Farewell:
        """The one this report belongs to; who reports a loss again had the node back in between: a new one begins."""
        farewell = self._farewells.get(lost)
        if farewell is None or farewell.until <= now or reporter in farewell.reporters:
            self._farewells = {node: each for node, each in self._farewells.items() if each.until > now}
            farewell = self._farewells[lost] = _Farewell(now + FAREWELL_SECONDS)
        farewell.reporters.add(reporter)
        farewell.know.add(reporter)
        return farewell

    def _others(self, node: Atom) -> list[Atom]:
        everybody = {**self._sync.known, **self._sync.pending}
        return [other for other, vsn in everybody.items() if vsn >= PARTITION_VSN and other != node]

    def _is_news(self, reporter: Atom, lost: Atom, life: int, loss: int, now: float) -> bool:
        heard = self._heard.get((reporter, lost))
        if heard is not None and heard[0] == life and loss <= heard[1] and now < heard[2]:
            return False
        self._heard.pop((reporter, lost), None)
        while self._heard and next(iter(self._heard.values()))[2] <= now:
            del self._heard[next(iter(self._heard))]
        self._heard[reporter, lost] = (life, loss, now + MEMORY_SECONDS)
        return True
