"""Wrong versions of states in shards, each with the test or the history that finds it."""

import inspect
from functools import partial

import pytest

from erlmesh.testing.loop import run
from simulation.mutants.mutation import Mutant
from simulation.sharding import state_directed as histories
from unit import test_replica_book as books
from unit import test_shard_holders

CORE = "erlmesh.core.sharding."
HOLDER = CORE + "replica_holder:HolderSide."
BOOK = CORE + "replica_book:ReplicaBook."
SHELF = CORE + "copy_shelf:CopyShelf."

MUTANTS = [
    (
        Mutant(
            HOLDER + "_flush",
            "a message is acknowledged, and its results go out, without a backup",
            "if not pending or not self._has_backups():",
            "if not pending:",
        ),
        books.check_a_move,
    ),
    (
        Mutant(
            CORE + "followers:Followers.copied",
            "a message is acknowledged before the backup has confirmed it",
            "return min((each.copied for each in self.table.values() if each.is_confirmed), default=count)",
            "return count",
        ),
        histories.a_holder_that_does_not_reach_its_backup_and_is_killed,
    ),
    (
        Mutant(
            BOOK + "_begin",
            "an heir does not send results again",
            "for key, entry in self.store.keys.items():",
            "for key, entry in ():",
        ),
        histories.a_result_is_sent_again_by_the_heir,
    ),
    (
        Mutant(
            SHELF + "is_fresh",
            "a node without a confirmed copy acts at once",
            "return bool(self._orphans) and not self._missed",
            "return True",
        ),
        books.test_nobody_acts_before_the_copies_of_others_are_merged,
    ),
    (
        Mutant(
            HOLDER + "_arrange",
            "a copy is forgotten when its node is no longer the second",
            "enough = confirmed >= min(self._backups, len(self._others()))",
            "enough = True",
        ),
        books.check_a_backup_that_starts,
    ),
    (
        Mutant(
            CORE + "snapshot:SnapshotWriter.copy",
            "a new backup gets messages before its snapshot",
            "if not self.slices or key in self._waiting:",
            "if False:",
        ),
        partial(books.test_one_fault_after_the_other_costs_nothing, 0),
    ),
    (
        Mutant(
            CORE + "store:Store.merge_key",
            "a merge replaces the state",
            "ours.state = self._merge(ours.state, theirs.state)",
            "ours.state = theirs.state",
        ),
        books.test_both_sides_of_a_partition_merge_at_the_better_one,
    ),
    (
        Mutant(
            CORE + "snapshot:SnapshotWriter._write_key",
            "the last numbers are not a part of the state",
            "lasts: list[Term] = list(entry.lasts.items())",
            "lasts: list[Term] = []",
        ),
        books.check_a_move,
    ),
    (
        Mutant(
            CORE + "snapshot:SnapshotWriter._next_batch",
            "an answer says that it has messages that came while it was written",
            "if self._copies:",
            "if True:",
        ),
        books.test_an_answer_claims_only_what_it_has,
    ),
    (
        Mutant(
            CORE + "snapshot:SnapshotWriter._next_batch",
            "a snapshot ends before the copies that it leaves out",
            "elif self._deferred:",
            "elif False:",
        ),
        partial(books.kill_during_a_heal, ((0, 2), (1, 3)), 0, 0, 90),
    ),
    (
        Mutant(
            HOLDER + "_arrange_leaving",
            "the holder leaves before the heir has confirmed the state",
            "is_ready = follower is not None and follower.is_confirmed and not follower.forgetting",
            "is_ready = follower is not None",
        ),
        histories.a_move_during_which_the_holder_acts,
    ),
    (
        Mutant(
            BOOK + "_become_copy",
            "a holder that leaves forgets its state at once",
            "self.shelf.add_orphan(self.store)",
            "pass",
        ),
        partial(books.kill_during_a_heal, ((0, 1), (2, 3)), 0, 2, 57),
    ),
    (
        Mutant(
            BOOK + "_ask",
            "a follower is not asked for its copy of a lost holder",
            "if pid in self._holders:",
            "if pid in self._holders or pid in self._followers.table:",
        ),
        partial(books.kill_during_a_heal, ((0, 2), (1, 3)), 0, 0, 5),
    ),
    (
        Mutant(
            BOOK + "holder_left",
            "a holder does not hear that there is a copy of one that it has not met",
            "for holder in self._holders:",
            "for holder in ():",
        ),
        books.test_a_copy_of_a_lost_holder_is_offered_to_a_holder_that_did_not_meet_it,
    ),
    (
        Mutant(
            BOOK + "_ask",
            "a node that has more while it answers is not asked again",
            "self._asked[pid] = True",
            "pass",
        ),
        books.test_a_node_that_gets_another_copy_while_it_answers_is_asked_again,
    ),
    (
        Mutant(
            HOLDER + "_arrange",
            "a copy is forgotten while the new backup still misses acknowledged messages",
            "self._followers.confirmed(wanted, self._acknowledged)",
            "self._followers.confirmed(wanted)",
        ),
        partial(books.kill_during_a_heal, ((0, 2, 4), (1, 3)), 0, 2, 70),
    ),
    (
        Mutant(
            "erlmesh.services.sharding.holders:ShardHolders.watch",
            "messages move to a better holder before it has the state",
            "if holder is None or (isinstance(event, Left) and holder in event.pids):",
            "if True:",
        ),
        test_shard_holders.test_messages_stay_with_their_holder_until_it_leaves,
    ),
    (
        Mutant(
            HOLDER + "_arrange",
            "an old copy is forgotten while no backup is confirmed",
            "if pid in others and pid not in self._copy_members:",
            "if pid in others:",
        ),
        books.test_an_old_copy_stays_while_no_backup_is_confirmed,
    ),
    (
        Mutant(
            SHELF + "holder_left",
            "a copy with an unfinished snapshot counts as complete",
            "if store is None or not is_current:",
            "if store is None:",
        ),
        books.test_a_copy_whose_new_snapshot_is_not_complete_is_not_fresh,
    ),
]


@pytest.mark.parametrize(("mutant", "test"), MUTANTS, ids=lambda each: getattr(each, "description", ""))
def test_a_wrong_version_is_found(mutant, test):
    with mutant.applied(), pytest.raises((AssertionError, ExceptionGroup)):
        run(test) if inspect.iscoroutinefunction(test) else test()
