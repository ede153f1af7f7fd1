"""The decisions about shards: candidates and the book. For grants, see ``test_grants.py``."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh.core.sharding.candidates import Candidates
from erlmesh.core.sharding.names import holders_group, shard_key, shard_of
from erlmesh.core.sharding.rendezvous import Rendezvous
from erlmesh.core.sharding.shard_book import (
    JoinCandidates,
    JoinHolders,
    LeaveCandidates,
    LeaveHolders,
    LetGo,
    ShardBook,
    Stay,
    Taken,
)
from erlmesh.terms import Atom, Pid

NAME = b"feeds"
SHARDS = 16
NODES = [Atom(f"n{number}@10.0.0.{number}") for number in range(6)]


def pid(node, number=100):
    return Pid(NODES[node], number, 0, 1)


def best_of(*nodes, shard=0):
    """The nodes, the one that comes first for the shard at the front."""
    found = Rendezvous(map(pid, nodes)).owners(shard_key(NAME, shard), len(nodes))
    return [NODES.index(each.node) for each in found]


BEST, SECOND, THIRD = best_of(0, 1, 2)


def book(me, *others, quorum=False, shards=1):
    """A book that has listened and joined, with candidates on the nodes ``others``."""
    made = ShardBook(pid(me), NAME, shards, quorum=quorum)
    for other in others:
        made.candidate_joined(pid(other))
    made.start()
    assert made.decide()[:1] == [JoinCandidates()]
    made.candidate_joined(pid(me))
    return made


# Names and candidates


def test_the_shard_of_a_key_and_the_names_are_fixed_because_other_nodes_compute_them():
    assert [shard_of(key.encode(), 256) for key in ("AAPL", "", "naïve")] == [174, 217, 107]
    assert shard_key("é".encode(), 7) == "é/7".encode()
    assert holders_group(b"feeds", 7) == (b"erlmesh_shards", b"feeds", 7)


joins = st.lists(st.tuples(st.sampled_from(["join", "leave"]), st.integers(0, 3), st.integers(1, 3)), max_size=30)


@given(joins)
def test_the_first_candidates_are_the_owners_of_the_keys_of_the_shards(changes):
    candidates, members = Candidates(NAME, SHARDS), []
    for kind, node, number in changes:
        each = pid(node, number)
        before = [candidates.first(shard) for shard in range(SHARDS)]
        changed = candidates.join(each) if kind == "join" else candidates.leave(each)
        if kind == "join":
            members.append(each)
        elif each in members:
            members.remove(each)
        after = [candidates.first(shard) for shard in range(SHARDS)]

        assert after == [Rendezvous(members).owner(shard_key(NAME, shard)) for shard in range(SHARDS)]
        assert changed or after == before
        assert len(candidates) == len({each.node for each in members})


@pytest.mark.parametrize("shards", [64, 256])
def test_a_fifth_of_the_shards_moves_when_a_fifth_node_starts(shards):
    moved = []
    for cluster in range(20):
        nodes = [Pid(Atom(f"worker{number}@10.{cluster}.0.{number}"), 100, 0, 1) for number in range(5)]
        candidates = Candidates(NAME, shards)
        for each in nodes[:4]:
            candidates.join(each)
        before = [candidates.first(shard) for shard in range(shards)]
        candidates.join(nodes[4])
        after = [candidates.first(shard) for shard in range(shards)]

        changed = [new for old, new in zip(before, after, strict=True) if old != new]
        assert {*changed} == {nodes[4]}
        moved.append(len(changed) / shards)

    assert abs(sum(moved) / len(moved) - 1 / 5) < 1 / 12 / 4
    assert sum(abs(each - 1 / 5) < 1 / 12 for each in moved) >= 17


# The book


def test_a_book_that_has_not_listened_takes_nothing():
    made = ShardBook(pid(BEST), NAME, 1)
    made.candidate_joined(pid(SECOND))

    assert made.decide() == []
    made.start()
    assert made.decide() == [JoinCandidates()]
    made.candidate_joined(pid(BEST))
    assert made.decide() == [JoinHolders(0), Taken(0)]
    assert made.may_act(0)


def test_only_the_first_candidate_takes():
    assert book(BEST, SECOND, THIRD).decide() == [JoinHolders(0), Taken(0)]
    assert book(SECOND, BEST, THIRD).decide() == []


def test_the_first_candidate_waits_until_nobody_else_holds():
    made = book(BEST, SECOND)
    made.holder_joined(0, pid(SECOND))
    made.holder_joined(0, pid(SECOND))
    made.holder_joined(0, pid(THIRD))

    assert made.decide() == []
    made.holder_left(0, pid(SECOND))
    made.holder_left(0, pid(THIRD))
    made.holder_left(0, pid(THIRD))
    assert made.decide() == []
    made.holder_left(0, pid(SECOND))
    assert made.decide() == [JoinHolders(0), Taken(0)]


def test_all_changes_of_one_message_count_before_a_decision():
    made = ShardBook(pid(BEST), NAME, 1)
    made.start()
    made.decide()

    made.candidate_joined(pid(BEST))  # It is the first, and the next change of the same message is a holder.
    made.holder_joined(0, pid(SECOND))

    assert made.decide() == []


def test_a_holder_lets_go_for_a_better_one_and_leaves_when_it_has_released():
    made = book(SECOND)
    assert made.decide() == [JoinHolders(0), Taken(0)]
    made.holder_joined(0, pid(SECOND))  # pg reports the own join, too

    made.candidate_joined(pid(BEST))

    assert made.decide() == [LetGo(0, pid(BEST))]
    assert not made.may_act(0)
    assert made.held == [0]
    made.holder_joined(0, pid(THIRD))
    assert made.decide() == []
    made.released(0)
    assert made.decide() == [LeaveHolders(0)]
    made.released(0)
    assert made.decide() == []


def test_a_holder_ignores_worse_ones():
    made = book(BEST)
    made.decide()

    made.candidate_joined(pid(SECOND))
    made.holder_joined(0, pid(SECOND))

    assert made.decide() == []
    assert made.may_act(0)


def test_the_heir_is_named_again_when_it_changes():
    made = book(THIRD)
    made.decide()
    made.candidate_joined(pid(SECOND))
    assert made.decide() == [LetGo(0, pid(SECOND))]

    made.candidate_joined(pid(BEST))
    assert made.decide() == [LetGo(0, pid(BEST))]
    made.candidate_left(pid(BEST))
    assert made.decide() == [LetGo(0, pid(SECOND))]


def test_a_holder_may_stay_when_the_better_one_goes_meanwhile():
    made = book(SECOND)
    made.decide()
    made.candidate_joined(pid(BEST))
    made.decide()

    made.candidate_left(pid(BEST))

    assert made.decide() == [Stay(0)]
    assert not made.may_act(0)
    made.keep(0)
    assert made.decide() == []
    assert made.may_act(0)
    made.released(0)
    assert made.decide() == [], "a shard that is kept is not released"


def test_a_holder_that_does_not_stay_takes_again():
    made = book(SECOND)
    made.decide()
    made.candidate_joined(pid(BEST))
    made.candidate_left(pid(BEST))
    assert made.decide() == []
    made.candidate_joined(pid(BEST))
    made.decide()
    made.candidate_left(pid(BEST))
    assert made.decide() == [Stay(0)]

    made.released(0)

    assert made.decide() == [LeaveHolders(0), JoinHolders(0), Taken(0)]


def test_stay_is_void_when_a_better_one_comes_before_the_answer():
    made = book(SECOND)
    made.decide()
    made.candidate_joined(pid(BEST))
    made.decide()
    made.candidate_left(pid(BEST))
    assert made.decide() == [Stay(0)]

    made.candidate_joined(pid(BEST))

    assert made.decide() == [LetGo(0, pid(BEST))]
    made.keep(0)
    assert not made.may_act(0)


def test_a_stop_leaves_the_candidates_first_and_names_the_heirs():
    made = book(BEST, SECOND)
    made.decide()

    made.stop()
    made.stop()

    assert made.decide() == [LeaveCandidates(), LetGo(0, pid(SECOND))]
    made.candidate_left(pid(BEST))  # as pg reports it
    assert made.decide() == []
    assert not made.ended
    made.released(0)
    assert made.decide() == [LeaveHolders(0)]
    assert made.ended


def test_a_stop_before_the_join_joins_nothing():
    made = ShardBook(pid(BEST), NAME, 1)
    made.stop()
    made.start()

    assert made.decide() == []
    assert made.ended


def test_abandoned_shards_are_left_without_a_release():
    made = book(BEST, SECOND, shards=1)
    made.decide()

    made.abandon()

    assert made.decide() == [LeaveCandidates(), LeaveHolders(0)]
    assert made.ended


def test_with_a_quorum_a_shard_is_claimed_first_and_taken_when_it_is_granted():
    made = book(BEST, SECOND, quorum=True, shards=9)
    mine = [shard for shard in range(9) if made.first(shard) == pid(BEST)]
    assert made.decide() == []
    assert made.claims == sum(1 << shard for shard in mine)

    made.elect(1 << mine[0])

    assert made.decide() == [JoinHolders(mine[0]), Taken(mine[0])]
    assert made.claims == sum(1 << shard for shard in mine)
    made.elect(0)
    assert made.decide() == [LetGo(mine[0], None)]
    assert not made.may_act(mine[0])


def test_a_shard_that_another_one_holds_or_is_to_hold_is_not_claimed():
    made = book(BEST, SECOND, quorum=True)
    made.holder_joined(0, pid(SECOND))
    made.decide()
    assert made.claims == 0

    made.holder_left(0, pid(SECOND))
    made.decide()
    assert made.claims == 1
    made.stop()
    made.decide()
    assert made.claims == 0
    other = book(SECOND, BEST, quorum=True)
    other.elect(1)
    assert other.decide() == []
    assert other.claims == 0


def test_a_shard_is_claimed_until_it_is_released():
    made = book(SECOND, quorum=True)
    made.elect(1)
    made.decide()
    made.candidate_joined(pid(BEST))
    assert made.decide() == [LetGo(0, pid(BEST))]
    assert made.claims == 1

    made.released(0)

    assert made.decide() == [LeaveHolders(0)]
    assert made.claims == 0


def test_a_holder_that_is_granted_its_shard_again_may_stay():
    made = book(BEST, SECOND, quorum=True)
    made.elect(1)
    made.decide()
    made.elect(0)
    assert made.decide() == [LetGo(0, None)]

    made.elect(1)

    assert made.decide() == [Stay(0)]
    made.keep(0)
    assert made.may_act(0)


def test_what_pg_says_of_processes_that_were_no_members_changes_nothing():
    made = book(BEST)
    made.decide()

    made.candidate_left(pid(SECOND))
    made.holder_left(0, pid(SECOND))

    assert made.decide() == []
    assert made.may_act(0)


def test_of_two_candidates_on_a_node_the_least_pid_holds_and_the_other_takes_over():
    made = book(BEST)
    made.decide()
    made.candidate_joined(pid(BEST, 7))
    assert made.decide() == [LetGo(0, pid(BEST, 7))]

    other = ShardBook(pid(BEST, 7), NAME, 1)
    other.candidate_joined(pid(BEST))
    other.holder_joined(0, pid(BEST))
    other.start()
    other.candidate_joined(pid(BEST, 7))
    assert other.decide() == [JoinCandidates()]
    other.holder_left(0, pid(BEST))
    assert other.decide() == [JoinHolders(0), Taken(0)]
