"""The side of a :class:`~erlmesh.core.sharding.replica_book.ReplicaBook` that holds the shard. No I/O."""

from __future__ import annotations

from typing import TypeVar

from erlmesh.core.sharding import replica_messages as tags
from erlmesh.core.sharding.followers import Follower, Stream
from erlmesh.core.sharding.keeper import Origin
from erlmesh.core.sharding.replica_base import Phase, ReplicaBase
from erlmesh.core.sharding.replica_effects import (
    Act,
    Confirmed,
    LeaveHolders,
    Out,
    Pause,
    ReplicaEffect,
    Send,
    Unsendable,
)
from erlmesh.core.sharding.snapshot import versions_term
from erlmesh.core.sharding.store import UnsendableResults
from erlmesh.terms import Pid, Term

__all__ = ["HolderSide"]

S = TypeVar("S")


class HolderSide(ReplicaBase[S]):
    """Applies messages, and acknowledges what the followers have."""

    def apply(self, key: bytes, source: Term, number: int, message: Term, time: int, token: object = None) -> None:  # noqa: PLR0917 - the fields of a message
        """Apply a message that is not a duplicate. ``time`` is in milliseconds since 1970.

        :class:`Confirmed` with ``token`` follows when it is replicated. Raises what the keeper raises: then the message
        is refused.
        Call this only while :attr:`is_acting`.
        """
        try:
            results = self.store.apply(message, Origin(key, source, number, time / 1000))
        except UnsendableResults as error:
            results = []
            self._out.append(Unsendable(key, source, error))
        self._count += 1
        self.store.versions[self._me, self._lineages] = self._count
        if self._followers.table:
            copy = self._message(tags.COPY, self._count, key, source, number, time, message)
            for pid, follower in self._followers.table.items():
                if follower.stream is None or follower.stream.writer.copy(key, copy):
                    self._out.append(Send(pid, copy))
        effects: list[ReplicaEffect] = [Confirmed(key, source, number, token)]
        if results:
            effects.append(Out(key, source, number, results))
        self._pending.append((self._count, effects))

    def confirm_again(self, key: bytes, source: Term, number: int, token: object) -> None:
        """A message is applied already. :class:`Confirmed` follows when all before is replicated."""
        self._pending.append((self._count, [Confirmed(key, source, number, token)]))

    def forget_results(self, key: bytes, source: Term, number: int) -> None:
        """All receivers have these results."""
        if self.phase is Phase.IDLE or not self.store.forget_results(key, source, number):
            return
        done = self._message(tags.DONE, key, source, number)
        for pid, follower in self._followers.table.items():
            if follower.stream is None or follower.stream.writer.copy(key, done):
                self._out.append(Send(pid, done))

    def _flush(self) -> None:
        """Acknowledge what is replicated."""
        pending = self._pending
        if not pending or not self._has_backups():
            return
        copied = self._followers.copied(self._count)
        while pending and pending[0][0] <= copied:
            self._acknowledged, effects = pending.popleft()
            self._out += effects

    def _has_backups(self) -> bool:
        if self.phase not in (Phase.ACTING, Phase.LEAVING):
            return False
        others = self._others()
        return self._followers.confirmed(others) >= min(self._backups, len(others))

    def _arrange(self) -> None:
        """Choose the followers, let others forget, and leave if the heir has everything."""
        if self.phase not in (Phase.ACTING, Phase.LEAVING):
            return
        table = self._followers.table
        others = [pid for pid in self._others() if pid not in self._failed]
        heir = self._heir()
        wanted = others[: self._backups]
        if heir is not None:
            wanted = [pid for pid in others if pid == heir or (pid in table and table[pid].is_confirmed)]
        for pid in wanted:
            if pid not in table:
                self._start(pid)
        # A new backup may still miss messages that only the old one has, and that are acknowledged.
        confirmed = self._followers.confirmed(wanted, self._acknowledged)
        enough = confirmed >= min(self._backups, len(self._others()))
        for pid, follower in list(table.items()):
            if pid in wanted:
                continue
            if not follower.is_confirmed:
                del table[pid]
                # An older copy that it has stays until there are enough new ones: see below.
                if pid in others and pid not in self._copy_members:
                    self._forget(pid)
            elif heir is None and enough and not follower.forgetting:
                follower.forgetting = True
                self._forget(pid)
        if heir is None and enough and not self._holders and not self._asked:
            for pid in self._copy_members:
                if pid not in table and pid not in self._told:
                    self._told[pid] = None
                    self._forget(pid)
        self._arrange_leaving(heir)

    def _forget(self, pid: Pid) -> None:
        self._send(pid, tags.FORGET, versions_term(self.store.versions))

    def _start(self, pid: Pid) -> None:
        """Make ``pid`` a follower: its copy is equal already, or it gets a snapshot."""
        follower: Follower[S] = Follower()
        self._followers.table[pid] = follower
        if pid in self._copy_members and self._count == 0 and self._base is not None:
            follower.adopting = (self._me, self._lineages)
            self._send(pid, tags.ADOPT, versions_term(self._base), follower.adopting)
        else:
            self._start_snapshot(follower)

    def _start_snapshot(self, follower: Follower[S]) -> None:
        self._streams += 1
        follower.stream = Stream(self._streams, self._keeper, [self.store], copies=True)

    def _arrange_leaving(self, heir: Pid | None) -> None:
        follower = self._followers.table.get(heir) if heir is not None else None
        is_ready = follower is not None and follower.is_confirmed and not follower.forgetting
        is_last = not self._ranked
        if self.phase is Phase.ACTING and (is_ready or is_last):
            self.phase = Phase.LEAVING
            self._out.append(Pause())
        elif self.phase is Phase.LEAVING and not is_ready and not is_last:
            self.phase = Phase.ACTING
            self._out.append(Act())
        if self.phase is Phase.LEAVING and (is_last or (follower is not None and follower.copied >= self._count)):
            self._flush()
            self._become_copy()
            self._out.append(LeaveHolders())

    def _receive_took(self, taker: Pid, place: Term) -> bool:
        match place:
            case (int(number), int(taken)):
                pass
            case _:
                return False
        answer = self._answers.get(taker)
        if answer is not None and answer.number == number:
            if answer.took(taken) or taken < 0:
                del self._answers[taker]
            return True
        follower = self._followers.table.get(taker)
        if follower is None or follower.stream is None or follower.stream.number != number:
            return True
        if taken < 0:
            self._failed[taker] = None
            del self._followers.table[taker]
            self._arrange()
        elif follower.stream.took(taken):
            versions = follower.stream.writer.end_versions
            follower.copied = max(follower.copied, versions.get((self._me, self._lineages), 0))
            follower.is_confirmed, follower.stream = True, None
            self._arrange()
        return True

    def _receive_copied(self, pid: Pid, count: Term) -> bool:
        if not isinstance(count, int):
            return False
        follower = self._followers.table.get(pid)
        if follower is not None and follower.is_confirmed and follower.copied < count <= self._count:
            is_behind = follower.copied < self._acknowledged
            follower.copied = count
            if is_behind or self.phase is Phase.LEAVING:
                self._arrange()
        return True

    def _receive_adopted(self, pid: Pid, lineage: Term, is_equal: Term) -> bool:
        follower = self._followers.table.get(pid)
        if follower is None or follower.adopting is None or follower.adopting != lineage:
            return True
        follower.adopting = None
        if is_equal is True:
            follower.is_confirmed = True
        else:
            self._start_snapshot(follower)
        self._arrange()
        return True

    def _receive_more(self, pid: Pid) -> bool:
        if self.phase is not Phase.IDLE and pid in self._copy_members and not self._holders:
            self._ask(pid)
        return True

    def _receive_forgot(self, pid: Pid, is_all: Term) -> bool:
        follower = self._followers.table.get(pid)
        if follower is not None and follower.forgetting:
            del self._followers.table[pid]
        if is_all is not True and self.phase is not Phase.IDLE and pid in self._copy_members and not self._holders:
            self._told.pop(pid, None)
            self._ask(pid)
        self._arrange()
        return True
