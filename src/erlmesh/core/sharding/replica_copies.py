"""The side of a :class:`~erlmesh.core.sharding.replica_book.ReplicaBook` that has copies for others. No I/O."""

from __future__ import annotations

from typing import TypeVar

from erlmesh.core.sharding import replica_messages as tags
from erlmesh.core.sharding.followers import Stream
from erlmesh.core.sharding.keeper import Origin
from erlmesh.core.sharding.messages import is_source
from erlmesh.core.sharding.replica_base import Phase, ReplicaBase
from erlmesh.core.sharding.replica_effects import Ignored
from erlmesh.core.sharding.snapshot import MalformedSnapshot, read_versions
from erlmesh.core.sharding.store import Store, includes
from erlmesh.terms import Pid, Term

__all__ = ["CopySide"]

S = TypeVar("S")


class CopySide(ReplicaBase[S]):
    """Messages of holders, and of nodes that take the shard. Each method returns False for a malformed one."""

    def _receive_give(self, giver: Pid, place: Term, more: Term, data: Term) -> bool:
        match place, more, data:
            case (int(stream), int(number)), bool(), bytes():
                pass
            case _:
                return False
        is_answer = giver in self._asked
        if not is_answer and giver not in self._holders:
            return True
        try:
            stores = self.shelf.read_slice(giver, stream, number, more, data)
        except MalformedSnapshot:
            self._broken(giver, stream)
            raise
        except Exception as error:
            self._broken(giver, stream)
            self._out.append(Ignored(giver, "a state that load() refuses", error))
            return True
        if stores is not None:
            self._received(giver, stores, is_answer)
        self._send(giver, tags.TOOK, (stream, number))
        return True

    def _received(self, giver: Pid, stores: list[Store[S]], is_answer: bool) -> None:
        if is_answer:
            for store in stores:
                self._add_to_merge(store)
            if self._asked[giver]:
                del self._asked[giver]
                self._ask(giver)
            else:
                self._no_answer_of(giver)
            self._arrange()
            return
        for store in stores:
            self.shelf.follow(giver, store, alone=len(self._holders) == 1)
        if self.shelf.has_orphans:
            self._send(giver, tags.MORE)
        self._update_copy_membership()

    def _broken(self, giver: Pid, stream: int) -> None:
        self._send(giver, tags.TOOK, (stream, -1))
        self._no_answer_of(giver)

    def _receive_copy(self, holder: Pid, *fields: Term) -> bool:
        match fields:
            case (int(count), bytes(key), source, int(number), int(time), message) if is_source(source):
                pass
            case _:
                return False
        if holder not in self._holders:
            return True
        stream = self.shelf.stream_of(holder)
        try:
            is_complete = self.shelf.copy(holder, count, message, Origin(key, source, number, time / 1000))
        except Exception as error:
            self._out.append(Ignored(holder, "a message that apply() refuses here, and not at the holder", error))
            if stream is not None:
                self._broken(holder, stream)
            self._update_copy_membership()
            return True
        if is_complete:
            self._copied_due[holder] = count
        return True

    def _receive_adopt(self, holder: Pid, versions: Term, lineage: Term) -> bool:
        match lineage:
            case (Pid() as pid, int(number)):
                pass
            case _:
                return False
        is_equal = (
            self.phase is Phase.IDLE
            and holder in self._holders
            and self.shelf.adopt(holder, read_versions(versions), (pid, number), alone=len(self._holders) == 1)
        )
        self._send(holder, tags.ADOPTED, lineage, is_equal)
        return True

    def _receive_copies(self, taker: Pid, versions: Term) -> bool:
        known = read_versions(versions)
        if taker not in self._holders:  # Only a holder asks. An answer to another pid would stay for ever.
            return True
        if self.phase is Phase.IDLE:  # Otherwise the taker hears that this node is a holder, and waits no longer.
            self._answer(taker, [store for store in self.shelf.stores() if not includes(known, store.versions)])
        return True

    def _answer(self, taker: Pid, stores: list[Store[S]]) -> None:
        self._streams += 1
        self._answers[taker] = Stream(self._streams, self._keeper, stores, copies=False)

    def _receive_forget(self, holder: Pid, versions: Term) -> bool:
        known = read_versions(versions)
        if holder not in self._holders:
            return True
        self.shelf.forget(holder, known)
        self._update_copy_membership()
        self._send(holder, tags.FORGOT, not self.shelf.has_orphans)
        return True

    def _receive_done(self, holder: Pid, key: Term, source: Term, number: Term) -> bool:
        match key, source, number:
            case bytes(), tuple(), int():
                if holder in self._holders:
                    self.shelf.forget_results(holder, key, source, number)
                return True
            case _:
                return False
