"""The books of a tracker shard, one rule at a time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracker_cluster import PHX_REF, TrackerCluster

from erlmesh.core.phoenix_tracker import presence_state, replica_table
from erlmesh.core.phoenix_tracker.delta_generations import DeltaGenerations
from erlmesh.core.phoenix_tracker.entries import Delta, Entry, FullState, contiguous_range
from erlmesh.core.phoenix_tracker.messages import GracefulPermdown, Heartbeat, TransferAnswer, TransferRequest
from erlmesh.core.phoenix_tracker.pool_check import PoolCheck
from erlmesh.core.phoenix_tracker.presence_shape import grouped, key_text
from erlmesh.core.phoenix_tracker.presence_state import PresenceState
from erlmesh.core.phoenix_tracker.replica_table import ReplicaTable, Status
from erlmesh.core.phoenix_tracker.shard_book import Broadcast, Changed, Direct, Ignored, ShardBook, TrackerSettings
from erlmesh.core.phoenix_tracker.validation import checked_term, parse_message
from erlmesh.terms import Atom, Map, Pid

A, B, C = ((Atom(name), 5) for name in ("a@h", "b@h", "c@h"))
OUR = (Atom("us@h"), 7)


def entry(key, pid=1, topic=b"t", size=0):
    return Entry(Pid(Atom("a@h"), pid, 0, 1), topic, key, Map({PHX_REF: b"x" * size}))


def keys(entries):
    return sorted(each.key for each in entries)


def known(*refs, **options):
    state = PresenceState(OUR, **options)
    for ref in refs:
        state.replica_up(ref)
    return state


def delta(ref, clocks, **values):
    """A delta of one replica: ``k3="x"`` is an entry with the key x at the clock 3."""
    found = {(ref, int(name[1:])): entry(key) for name, key in values.items()}
    return Delta(found, {ref: set(clocks)})


# The state


def test_changes_of_an_unknown_replica_and_of_this_one_are_not_taken():
    state = known(A)

    assert not state.merge_delta(delta(B, [1], k1=b"b"))
    assert not state.merge_delta(delta(OUR, [1], k1=b"forged"))
    assert not state.merge_full(FullState({B: 1, OUR: 9}, {}, {(B, 1): entry(b"b"), (OUR, 9): entry(b"forged")}))
    assert state.context == {OUR: 0, A: 0}
    assert keys(state.list(b"t")) == []


def test_others_cannot_remove_what_this_replica_tracks():
    state = known(A)
    state.track(entry(b"own"))

    state.merge_delta(Delta({}, {OUR: {1}}))
    state.merge_full(FullState({OUR: 5}, {OUR: {1}}, {}))

    assert keys(state.list(b"t")) == [b"own"]
    assert state.context[OUR] == 1


def test_delta_beyond_a_gap_is_listed_and_the_context_stays():
    state = known(A)

    changes = state.merge_delta(delta(A, [5, 6], k5=b"five"))

    assert keys(changes.joins) == [b"five"]
    assert (state.context[A], state.clouds) == (0, {A: {5, 6}})
    assert not state.merge_delta(delta(A, [5, 6], k5=b"five"))  # it arrives twice
    state.merge_delta(delta(A, [1, 2, 3, 4], k2=b"two"))
    assert (state.context[A], state.clouds) == (6, {})
    assert keys(state.list(b"t")) == [b"five", b"two"]


def test_entry_that_was_removed_does_not_come_back_with_an_old_message():
    state = known(A)
    old = delta(A, [1], k1=b"one")
    state.merge_delta(old)
    assert keys(state.merge_delta(delta(A, [1, 2])).leaves) == [b"one"]

    assert not state.merge_delta(old)
    assert not state.merge_full(FullState({A: 1}, {}, {(A, 1): entry(b"one")}))
    assert keys(state.list(b"t")) == []


def test_removal_that_arrives_before_the_entry_wins():
    state = known(A)
    state.merge_delta(delta(A, [3, 4]))

    assert not state.merge_delta(delta(A, [3], k3=b"three"))
    assert not state.merge_full(FullState({A: 3}, {}, {(A, 3): entry(b"three")}))


def test_full_state_removes_what_it_covers_and_does_not_have():
    state = known(A)
    state.merge_delta(delta(A, [1, 2, 3, 9], k1=b"1", k2=b"2", k3=b"3", k9=b"9"))

    changes = state.merge_full(FullState({A: 2}, {A: {9}}, {(A, 1): entry(b"1")}))

    assert keys(changes.leaves) == [b"2", b"9"]
    assert keys(state.list(b"t")) == [b"1", b"3"]
    state.merge_full(FullState({A: 8}, {}, {(A, 1): entry(b"1"), (A, 7): entry(b"7")}))
    assert (state.context[A], state.clouds) == (9, {})
    assert keys(state.list(b"t")) == [b"1", b"7"]


def test_removal_of_another_replica_is_repeated_in_the_next_delta():
    state = known(A)
    state.merge_delta(delta(A, [1], k1=b"one"))
    assert state.take_delta() is None

    state.merge_delta(delta(A, [1, 2]))

    said = state.take_delta()
    assert (said.values, said.clouds) == ({}, {A: {1}})
    assert state.take_delta() is None


def test_own_changes_are_in_one_delta_and_an_update_has_two_clocks():
    state = known()
    state.track(entry(b"one"))
    state.track(entry(b"two"))
    assert state.take_delta().clouds == {OUR: {1, 2}}

    state.update(entry(b"one", size=1))
    state.untrack(entry(b"two").pid, b"t", b"two")
    said = state.take_delta()

    # The old tags are said once more. So those who have the old entries remove them.
    assert said.clouds == {OUR: {1, 2, 3, 4, 5}}
    assert [*said.values] == [(OUR, 4)]
    assert state.context == {OUR: 5}


def test_replica_that_is_down_is_not_listed_and_comes_back_unchanged():
    state = known(A)
    state.merge_delta(delta(A, [1, 2], k1=b"1", k2=b"2"))

    assert keys(state.replica_down(A).leaves) == [b"1", b"2"]
    assert not state.replica_down(A)
    assert (keys(state.list(b"t")), keys(state.list_key(b"t", b"1"))) == ([], [])
    assert A not in state.clocks()
    assert not state.merge_delta(delta(A, [1, 3, 4], k4=b"4"))  # of another replica's answer
    assert keys(state.replica_up(A).joins) == [b"2", b"4"]
    assert state.clocks()[A] == 4


def test_nothing_of_a_forgotten_replica_stays():
    state = known(A, B)
    state.merge_delta(delta(A, [1, 2, 9], k1=b"1", k2=b"2", k9=b"9"))
    state.merge_delta(delta(A, [1, 3]))

    assert keys(state.forget(A).leaves) == [b"2", b"9"]

    assert state.context == {OUR: 0, B: 0}
    assert (state.clouds, len(state), [*state.topics()]) == ({}, 0, [])
    assert state.take_delta() is None
    assert not state.forget(A)


def test_extract_has_only_the_named_replicas_and_nothing_of_the_asker():
    state = known(A, B, C)
    state.track(entry(b"own"))
    state.merge_delta(delta(A, [1], k1=b"a"))
    state.merge_delta(delta(B, [1, 7], k1=b"b"))
    state.merge_delta(delta(C, [1], k1=b"c"))

    full = state.extract(A, [A, B, OUR])

    assert full.context == {A: 1, B: 1, OUR: 1}
    assert full.clouds == {B: {7}}
    assert keys(full.values.values()) == [b"b", b"own"]


def test_entries_of_others_are_bounded_in_number_and_bytes():
    state = known(A, max_entries=2, max_bytes=1000)

    state.merge_delta(delta(A, [1, 2, 3], k1=b"1", k2=b"2", k3=b"3"))
    assert (len(state), state.refused) == (2, 1)
    state.merge_delta(delta(A, [1, 2, 4]))
    assert len(state) == 0
    state.merge_delta(Delta({(A, 5): entry(b"large", size=2000)}, {A: {5}}))
    assert (len(state), state.refused) == (0, 2)
    state.merge_delta(Delta({(A, 6): entry(b"fits", size=500)}, {A: {6}}))
    state.merge_delta(Delta({(A, 7): entry(b"too much", size=500)}, {A: {7}}))
    assert (len(state), state.refused) == (1, 3)


def test_gaps_are_bounded_and_a_full_state_closes_them(monkeypatch):
    monkeypatch.setattr(presence_state, "MAX_GAPS", 10)
    state = known(A)
    state.merge_delta(delta(A, range(3, 12), k3=b"3"))

    assert not state.merge_delta(delta(A, range(13, 100), k13=b"13"))
    assert state.clouds[A] == {*range(3, 12)}
    state.merge_delta(delta(A, range(1, 50), k13=b"13"))  # many, without a gap
    assert (state.context[A], state.clouds) == (49, {})
    state.merge_full(FullState({A: 1000}, {A: {*range(1001, 1020)}}, {}))
    assert state.context[A] == 1019


def test_forgotten_topics_and_keys_take_no_memory():
    state = known(A)
    for number in range(50):
        state.track(entry(b"%d" % number, pid=number, topic=b"t%d" % number))
        state.merge_delta(delta(A, [number + 1], **{f"k{number + 1}": b"a"}))
    for number in range(50):
        state.untrack_pid(entry(b"", pid=number).pid)
    state.forget(A)

    assert (state._index._topics, state._own_clocks, state._own_keys, len(state), state._bytes) == ({}, {}, {}, 0, 0)


# Deltas and generations

clouds = st.dictionaries(st.sampled_from([A, B]), st.sets(st.integers(1, 9)), max_size=2)


@st.composite
def deltas(draw):
    found = draw(clouds)
    tags = [(ref, clock) for ref, cloud in found.items() for clock in sorted(cloud)]
    alive = draw(st.sets(st.sampled_from(tags))) if tags else set()
    return Delta({tag: entry(b"%d" % tag[1]) for tag in alive}, found)


@settings(max_examples=300, deadline=None)
@given(deltas(), deltas(), deltas())
def test_merging_deltas_is_the_same_as_merging_one_after_the_other(first, second, third):
    one_by_one, at_once = known(A, B), known(A, B)
    merged = first.copy()
    for each in (second, third):
        merged.merge(each)
    for each in (first, second, third):
        one_by_one.merge_delta(each)
    at_once.merge_delta(merged)

    assert (one_by_one.context, one_by_one.clouds) == (at_once.context, at_once.clouds)
    assert keys(one_by_one.list(b"t")) == keys(at_once.list(b"t"))


@settings(max_examples=300, deadline=None)
@given(st.lists(deltas(), max_size=4), st.randoms())
def test_order_and_repetition_of_deltas_do_not_count(given_deltas, random):
    one, other = known(A, B), known(A, B)
    for each in given_deltas:
        one.merge_delta(each)
    shuffled = [*given_deltas, *given_deltas]
    random.shuffle(shuffled)
    for each in shuffled:
        other.merge_delta(each)

    assert (one.context, one.clouds) == (other.context, other.clouds)
    assert keys(one.list(b"t")) == keys(other.list(b"t"))


def test_range_of_a_delta_is_the_last_run_without_a_gap():
    assert contiguous_range({A: {2, 5, 6, 7}, B: {1}, C: set()}) == ({A: 4, B: 0}, {A: 7, B: 1})


def test_generation_answers_only_if_it_has_all_that_is_missing():
    generations = DeltaGenerations([4, 10])
    for clock in range(1, 6):
        generations.push(delta(A, [clock], **{f"k{clock}": b"%d" % clock}))

    def answered(known_clock, wanted_clock=5):
        found = generations.covering({A: known_clock}, {A: wanted_clock})
        return None if found is None else sorted(clock for _, clock in found.values)

    assert answered(5) == []
    assert answered(4) == [5]
    assert answered(3) == [1, 2, 3, 4, 5]  # the second one: the first has started again with 5
    assert answered(0) == [1, 2, 3, 4, 5]
    generations.push(delta(A, [8], k8=b"8"))
    assert answered(5, 8) is None  # 6 and 7 are missing
    generations.forget(A)
    assert answered(4) is None


def test_generation_answers_for_the_named_replicas_only():
    generations = DeltaGenerations([100])
    generations.push(delta(A, [1], k1=b"a"))
    generations.push(delta(B, [1], k1=b"b"))

    found = generations.covering({A: 0}, {A: 1, B: 1})

    assert [*found.values] == [(A, 1)]
    assert found.clouds == {A: {1}}
    assert generations.covering({A: 0, B: 0}, {A: 1, B: 2}) is None


# Replicas


def table(down=30.0, permdown=100.0):
    return ReplicaTable(down_period=down, permdown_period=permdown)


def test_replica_is_down_and_then_forgotten_without_heartbeats():
    replicas = table()
    assert replicas.heartbeat(A, 0.0) == [(Status.UP, A)]
    assert replicas.heartbeat(A, 10.0) == []

    assert replicas.expire(40.0) == []
    assert replicas.expire(40.1) == [(Status.DOWN, A)]
    assert replicas.expire(50.0) == []
    assert (replicas.up(), replicas.is_up(A), replicas.ref(A[0])) == ([], False, A)
    assert replicas.heartbeat(A, 60.0) == [(Status.UP, A)]
    assert replicas.expire(170.0) == [(Status.FORGOTTEN, A)]
    assert len(replicas) == 0
    assert replicas.heartbeat(A, 200.0) == [(Status.UP, A)]  # after a long partition


def test_next_life_of_a_replica_ends_the_one_before_and_a_late_message_of_that_is_ignored():
    replicas = table()
    old, new = (A[0], 5), (A[0], 9)
    replicas.heartbeat(old, 0.0)

    assert replicas.heartbeat(new, 1.0) == [(Status.FORGOTTEN, old), (Status.UP, new)]
    assert replicas.heartbeat(old, 2.0) is None
    assert replicas.end(old) == []
    assert replicas.end(new) == [(Status.FORGOTTEN, new)]
    assert replicas.heartbeat(new, 3.0) is None


def test_life_with_a_smaller_number_waits_until_the_present_one_is_down():
    replicas = table()
    replicas.heartbeat((A[0], 9), 0.0)
    assert replicas.heartbeat((A[0], 5), 10.0) is None

    assert replicas.expire(31.0) == [(Status.DOWN, (A[0], 9))]
    assert replicas.heartbeat((A[0], 5), 32.0) == [(Status.FORGOTTEN, (A[0], 9)), (Status.UP, (A[0], 5))]


def test_number_of_replicas_and_of_ended_lives_is_bounded(monkeypatch):
    monkeypatch.setattr(replica_table, "MAX_REPLICAS", 3)
    replicas = table()
    refs = [(Atom(f"n{number}@h"), 1) for number in range(5)]

    assert [replicas.heartbeat(ref, 0.0) is not None for ref in refs] == [True] * 3 + [False] * 2
    for vsn in range(1, 100):
        replicas.end((refs[0][0], vsn))
        replicas.heartbeat((refs[0][0], vsn + 1), 0.0)
    assert len(replicas._ended[refs[0][0]]) == replica_table.MAX_ENDED
    for number in range(20):
        for ref in [each for each in replicas.up() if each[0] is not refs[0][0]]:
            replicas.end(ref)
        replicas.heartbeat((Atom(f"m{number}@h"), 1), 0.0)
    assert len(replicas._ended) <= 3


# The shard


def book(*, speaks=True, now=0.0, **options):
    ids = iter(range(1000))
    return ShardBook(OUR, TrackerSettings(**options), now, speaks=speaks, make_id=lambda: next(ids))


def receive(shard, message, now=1.0):
    return shard.receive(checked_term(message), now, lambda name: name is message.ref[0])


def sent(effects):
    return [parse_message(each.message) for each in effects if isinstance(each, Broadcast | Direct)]


def test_heartbeats_come_with_changes_and_else_after_the_silent_periods():
    shard = book(max_silent_periods=3)
    beats = []
    for number in range(1, 12):
        if number == 3:
            shard.track(entry(b"k"))
        beats.append([each.delta is not None for each in sent(shard.beat(number * 1.5))])

    assert beats == [[False], [], [True], [], [], [], [False], [], [], [], [False]]


def test_new_replica_is_told_with_the_next_beat():
    shard = book()
    assert len(sent(shard.beat(1.5))) == 1
    assert sent(shard.beat(3.0)) == []

    receive(shard, Heartbeat(A, None, {A: 0}))

    assert len(sent(shard.beat(4.5))) == 1


def test_new_replica_with_entries_is_asked_at_once_and_others_with_every_second_beat():
    shard = book()
    (request,) = sent(receive(shard, Heartbeat(A, None, {A: 3})))
    assert isinstance(request, TransferRequest)
    assert request.clocks == {A: 0}
    assert not shard.is_synced()

    receive(shard, TransferAnswer(request.id, A, FullState({A: 3}, {}, {(A, 3): entry(b"k")})))
    assert shard.is_synced()
    assert sent(receive(shard, Heartbeat(A, None, {A: 5}))) == []
    assert not shard.is_synced()
    asked = [[type(each) for each in sent(shard.beat(number * 1.5))].count(TransferRequest) for number in (1, 2, 3, 4)]
    assert asked == [0, 1, 0, 1]


def test_each_replica_is_asked_for_its_own_changes_only():
    shard = book()
    for ref in (A, B, C):
        receive(shard, Heartbeat(ref, None, {ref: 0}))
    for ref in (A, B):
        receive(shard, Heartbeat(ref, None, {A: 5, B: 5, C: 1}))
    receive(shard, Heartbeat(C, None, {A: 4, C: 0}))
    effects = shard.beat(1.5) + shard.beat(3.0)

    asked = [effect for effect in effects if isinstance(effect, Direct)]

    assert [each.node for each in asked] == [A[0], B[0]]
    assert [each.clocks for each in sent(asked)] == [{A: 0}, {B: 0}]


def test_a_replica_cannot_add_or_remove_the_entries_of_another_one():
    shard = book()
    receive(shard, Heartbeat(B, None, {B: 0}))
    receive(shard, Heartbeat(B, delta(B, [1, 2], k1=b"1", k2=b"2"), {B: 2}))
    receive(shard, Heartbeat(A, None, {A: 0}))
    for message in (
        Heartbeat(A, delta(B, [1]), {A: 0, B: 1000}),
        Heartbeat(A, delta(B, [3], k3=b"forged"), {A: 0}),
        TransferAnswer(1, A, delta(B, [2, 4], k4=b"forged")),
        TransferAnswer(1, A, FullState({A: 0, B: 1 << 60}, {B: {1 << 61}}, {(B, 9): entry(b"forged")})),
    ):
        assert not [each for each in receive(shard, message) if isinstance(each, Changed)]
    assert keys(shard.state.list(b"t")) == [b"1", b"2"]

    receive(shard, Heartbeat(B, delta(B, [3, 4], k3=b"3"), {B: 4}))
    assert keys(shard.state.list(b"t")) == [b"1", b"2", b"3"]
    assert shard.is_synced()


def test_clocks_of_unknown_replicas_cause_no_requests():
    shard = book()
    receive(shard, Heartbeat(A, None, {A: 0, B: 7}))
    effects = shard.beat(1.5) + shard.beat(3.0)

    assert not [each for each in effects if isinstance(each, Direct)]
    assert shard.is_synced()


def test_answer_to_a_probe_leads_to_a_request_that_names_the_replica():
    shard = book()
    (probe,) = shard.probe(A[0])
    (request,) = sent([probe])
    assert request.clocks == {}

    (second,) = sent(receive(shard, TransferAnswer(request.id, A, Delta())))

    assert second.clocks == {A: 0}
    assert not shard.is_synced()
    receive(shard, TransferAnswer(request.id, A, Delta()))  # of an earlier probe
    assert not shard.is_synced()
    receive(shard, TransferAnswer(second.id, A, Delta()))
    assert shard.is_synced()
    assert shard.probe(A[0]) == []


def test_probes_are_repeated_a_few_times():
    shard = book()
    shard.probe(A[0])
    asked = [
        effect.node for number in range(1, 20) for effect in shard.beat(number * 1.5) if isinstance(effect, Direct)
    ]
    assert asked == [A[0]] * 2


def test_read_replica_asks_and_never_speaks():
    shard = book(speaks=False)
    (request,) = sent(receive(shard, Heartbeat(A, None, {A: 3})))
    assert request.clocks == {A: 0}

    receive(shard, TransferAnswer(request.id, A, FullState({A: 3}, {}, {(A, 3): entry(b"k")})))
    receive(shard, Heartbeat(A, Delta({}, {A: {3, 4}}), {A: 4}))

    assert sent([effect for number in range(1, 30) for effect in shard.beat(number * 1.5)]) == []
    assert receive(shard, TransferRequest(1, A, {A: 0})) == []
    assert shard.end() == []
    assert shard.state.take_delta() is None


def test_answer_is_the_kept_changes_or_the_full_state():
    shard = book(max_delta_sizes=(4,))
    for number in range(4):
        shard.track(entry(b"%d" % number))
        shard.beat(number * 1.5)

    def answer(clocks):
        (effect,) = receive(shard, TransferRequest(1, A, clocks))
        assert effect.node is A[0]
        return parse_message(effect.message).state

    assert keys(answer({OUR: 3}).values.values()) == [b"2", b"3"]
    full = answer({OUR: 1})
    assert isinstance(full, FullState)
    assert full.context == {OUR: 4}
    assert len(full.values) == 4
    assert answer({A: 0}).size == 0
    assert answer({OUR: 4}).size == 0


def test_forged_entries_of_this_replica_are_not_passed_on():
    shard = book()
    shard.track(entry(b"own"))
    shard.beat(1.5)
    receive(shard, Heartbeat(A, delta(OUR, [1, 2], k2=b"forged"), {A: 0}))
    shard.track(entry(b"next", pid=2))
    shard.beat(3.0)

    (answer,) = sent(receive(shard, TransferRequest(1, B, {OUR: 0})))

    assert keys(answer.state.values.values()) == [b"next", b"own"]


def test_kept_changes_of_a_forgotten_replica_are_not_passed_on():
    shard = book()
    receive(shard, Heartbeat(A, delta(A, [1], k1=b"a"), {A: 1}))
    shard.track(entry(b"own"))
    shard.beat(1.5)
    receive(shard, GracefulPermdown(A))

    (answer,) = sent(receive(shard, TransferRequest(1, B, {OUR: 0, A: 0})))

    assert isinstance(answer.state, Delta)
    assert answer.state.clouds == {OUR: {1}}
    assert keys(answer.state.values.values()) == [b"own"]


def test_changes_that_came_in_a_full_state_are_answered_with_a_full_state():
    shard = book()
    receive(shard, Heartbeat(A, delta(A, [1], k1=b"1"), {A: 1}))
    receive(shard, TransferAnswer(1, A, FullState({A: 5}, {}, {(A, 1): entry(b"1"), (A, 5): entry(b"5")})))

    (answer,) = sent(receive(shard, TransferRequest(1, B, {A: 0})))

    assert isinstance(answer.state, FullState)
    assert keys(answer.state.values.values()) == [b"1", b"5"]


def test_what_was_not_taken_is_neither_kept_nor_passed_on_as_removed():
    shard = book(max_delta_sizes=(1000,))
    shard.state = known(max_entries=2)
    receive(shard, Heartbeat(A, None, {A: 0}))
    receive(shard, Heartbeat(B, delta(B, [1], k1=b"of B"), {B: 1}))
    receive(shard, Heartbeat(A, delta(A, [1], k1=b"a"), {A: 1}))
    # Another entry for a tag that is known already, and one that is known as removed.
    receive(shard, Heartbeat(A, delta(A, [2, 3]), {A: 3}))
    for number in range(10):
        receive(shard, Heartbeat(A, delta(A, [1, 2], k1=b"forged %d" % number, k2=b"forged"), {A: 3}))

    (answer,) = sent(receive(shard, TransferRequest(1, C, {A: 0, B: 0})))
    assert keys(answer.state.values.values()) == [b"a", b"of B"]
    assert answer.state.clouds == {A: {1, 2, 3}, B: {1}}

    receive(shard, Heartbeat(A, delta(A, [4], k4=b"one too many"), {A: 4}))
    (answer,) = sent(receive(shard, TransferRequest(1, C, {A: 0, B: 0})))
    assert (answer.state.context, keys(answer.state.values.values())) == ({B: 1}, [b"of B"])
    (beat,) = sent(shard.beat(15.0))
    assert beat.clocks == {OUR: 0, B: 1}
    assert shard.state.clocks()[A] == 4  # It still asks for what it lacks.

    receive(shard, GracefulPermdown(A))
    receive(shard, Heartbeat((A[0], 6), delta((A[0], 6), [1], k1=b"next life"), {(A[0], 6): 1}))
    assert (A[0], 6) in shard.state.told_clocks()


def test_shard_that_did_not_run_does_not_take_the_others_for_silent():
    shard = book()
    receive(shard, Heartbeat(A, delta(A, [1], k1=b"1"), {A: 1}), now=1.0)
    shard.beat(1.5)

    assert not [each for each in shard.beat(200.0) if isinstance(each, Changed)]
    later = [each for number in range(1, 30) for each in shard.beat(200.0 + number * 1.5)]
    (left,) = [each.changes for each in later if isinstance(each, Changed)]
    assert keys(left.leaves) == [b"1"]


def test_message_in_the_name_of_another_node_is_counted_and_ignored():
    shard = book()

    effects = shard.receive(checked_term(Heartbeat(A, None, {A: 1})), 1.0, lambda name: name is B[0])

    assert [type(each) for each in effects] == [Ignored]
    assert (shard.counts.forged, len(shard.replicas)) == (1, 0)


def test_message_of_an_ended_life_is_counted_and_ignored():
    shard = book()
    newer = (A[0], 9)
    receive(shard, Heartbeat(A, None, {A: 0}))
    receive(shard, Heartbeat(newer, None, {newer: 0}))

    assert receive(shard, Heartbeat(A, delta(A, [1], k1=b"1"), {A: 1})) == []
    assert receive(shard, TransferAnswer(1, A, delta(A, [1], k1=b"1"))) == []
    assert shard.counts.stale == 2
    assert A not in shard.state.context


@pytest.mark.parametrize(
    "wrong",
    [
        {"broadcast_period": 0},
        {"down_period": 2.0},
        {"permdown_period": 30.0},
        {"max_silent_periods": -1},
        {"clock_sample_periods": 0},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrackerSettings(**wrong)


# The clusters of books


def test_lost_heartbeat_is_made_good_by_a_transfer():
    cluster = TrackerCluster()
    a, b = cluster.start("a"), cluster.start("b")
    cluster.run(5)
    cluster.loss = 1.0
    a.track(key=b"lost")
    cluster.run(2)
    cluster.loss = 0.0
    assert b.everything() == []

    cluster.run(20)

    cluster.assert_equal()
    assert len(b.everything()) == 1


def test_removal_reaches_a_node_after_the_partition_or_with_the_end_of_the_replica():
    for heals in (True, False):
        cluster = TrackerCluster()
        a, b, c = (cluster.start(name) for name in "abc")
        gone = a.track(key=b"gone")
        cluster.run(5)
        cut = frozenset((a.name, c.name))
        cluster.cuts.add(cut)
        a.untrack(gone)
        cluster.run(5)
        assert b.everything() == []
        assert c.everything() == [gone]  # Only a itself could say that it is gone.

        if heals:
            cluster.cuts.remove(cut)
        cluster.run(40)

        assert c.everything() == []


# Small parts


def test_pool_check_says_what_is_wrong_once():
    check = PoolCheck("T", 4)
    assert not check.entries(1, [b"lobby"])  # phash2("lobby", 4) is 1
    assert check.mismatch is None

    assert check.entries(2, [b"lobby"])
    assert not check.heard_next_shard()
    assert "pool_size 4 of the Tracker T is wrong: other nodes have the topic" in check.mismatch
    assert not PoolCheck("T", 1).entries(0, [b"any"])
    assert not PoolCheck("T", 2).incomplete([])
    assert PoolCheck("T", 2).incomplete([Atom("b@h"), Atom("a@h")])


def test_keys_are_shown_as_elixir_shows_them():
    shown = {b"k\xc3\xa9": "ké", "k": "k", Atom("k"): "k", 7: "7", 1.5: "1.5", Atom("nil"): "", True: "true"}
    assert {key: key_text(key) for key in shown} == shown
    assert key_text([107, 233]) == "ké"
    assert grouped([(b"a", Map({1: 1})), (Atom("a"), Map({2: 2})), (b"b", Map())]) == {
        "a": {"metas": [Map({1: 1}), Map({2: 2})]},
        "b": {"metas": [Map()]},
    }
