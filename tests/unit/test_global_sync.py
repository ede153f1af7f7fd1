"""Sessions: what two servers say to each other, message by message (the forms are those of a capture of OTP 25)."""

import pytest

from erlmesh.services.global_.lock_table import LockTable
from erlmesh.services.global_.methods import random_exit_name
from erlmesh.services.global_.name_table import NameTable
from erlmesh.services.global_.partitions import Partitions
from erlmesh.services.global_.protocol import (
    NET_SETUPTIME_SECONDS,
    Cast,
    Connect,
    Disconnect,
    Monitor,
    Recheck,
    Resolve,
    Send,
    SendToLocker,
    StopResolving,
)
from erlmesh.services.global_.sync import GlobalSync
from erlmesh.terms import Atom, Map, Pid

ME, HIM, C, D, Z = (Atom(f"{name}@h") for name in ("m", "h", "c", "d", "z"))
LOCKER, HIS = Pid(ME, 2, 0, 1), Pid(HIM, 56, 0, 1)
ZS = Pid(Z, 56, 0, 1)
P, Q = Pid(ME, 5, 0, 1), Pid(HIM, 6, 0, 1)
X, INSERT, UNUSED = Atom("x"), Atom("insert"), Atom("unused")
NO_PID = Atom("no_longer_a_pid")
LOCK = (Atom("global"), [LOCKER, HIS])


def word(name):
    return Atom(name)


def hello(locker=HIS):
    return (word("locker"), NO_PID, Map(), locker)


def fresh(known=()):
    locks, names = LockTable(), NameTable()
    sync = GlobalSync(ME, names, locks, first_tag=100)
    sync.locker = LOCKER
    sync.known.update(known)
    sync.names, sync.locks = names, locks
    return sync


def met(known=(), *, node=HIM, locker=HIS, vsn=8):
    """A session in which both have said hello: our tag is 100, his is 7."""
    sync = fresh(known)
    sync.nodeup(node)
    sync.init_connect(node, (vsn, 7), hello(locker))
    return sync


def test_nodeup_sends_init_connect():
    sync = fresh({C: 8})

    assert sync.nodeup(HIM) == [
        Cast(HIM, (word("init_connect"), (8, 100), ME, (word("locker"), NO_PID, Map({C: 8}), LOCKER)))
    ]


def test_known_node_gets_no_init_connect():
    assert fresh({HIM: 8}).nodeup(HIM) == []


def test_init_connect_is_acknowledged_and_given_to_the_locker():
    sync = fresh()
    sync.nodeup(HIM)

    assert sync.init_connect(HIM, (8, 7), hello()) == [
        SendToLocker((word("his_the_locker"), HIS, 8, 7, 100)),
        Send(HIM, (word("init_connect_ack"), ME, 7, 100)),
    ]
    assert sync.pending == {HIM: 8}


def test_init_connect_before_nodeup_is_kept():
    sync = fresh()

    assert sync.init_connect(HIM, (8, 7), hello()) == []
    assert [type(effect) for effect in sync.nodeup(HIM)] == [Cast, SendToLocker, Send]


def test_init_connect_of_an_earlier_connection_is_not_kept():
    sync = fresh()
    sync.init_connect(HIM, (8, 7), hello())
    sync.remove_node(HIM)

    assert [type(effect) for effect in sync.nodeup(HIM)] == [Cast]


@pytest.mark.parametrize(("theirs", "spoken"), [(5, 5), (6, 6), (7, 7), (8, 8), (9, 8)])
def test_lower_version_is_used(theirs, spoken):
    sync = fresh()
    sync.nodeup(HIM)

    effects = sync.init_connect(HIM, (theirs, 7, b"of the future")[: 2 if theirs < 9 else 3], hello())

    assert effects[0] == SendToLocker((word("his_the_locker"), HIS, spoken, 7, 100))
    assert len(effects) == (2 if theirs >= 8 else 1)
    assert sync.pending == {HIM: theirs}


@pytest.mark.parametrize("version", [(4, 7), 8, (b"8", 7), ()])
def test_init_connect_of_an_unsupported_version_is_ignored(version):
    sync = fresh()
    sync.nodeup(HIM)

    assert sync.init_connect(HIM, version, hello()) == []


def test_second_init_connect_restarts_the_session():
    sync = met()

    effects = sync.init_connect(HIM, (8, 8), hello())

    assert effects[0] == Send(HIM, (word("cancel_connect"), ME, 8))
    assert SendToLocker((word("cancel"), HIM, 100, [])) in effects
    assert effects[-1].message[1] == (8, 101)
    assert sync.pending == {}


def test_second_init_connect_of_an_old_version_disconnects():
    sync = met(vsn=5)

    assert [type(effect) for effect in sync.init_connect(HIM, (5, 8), hello())] == [Disconnect]


def test_ack_of_the_current_session_changes_nothing():
    assert met().init_connect_ack(HIM, 100, 7) == []


@pytest.mark.parametrize(("mine", "his"), [(99, 7), (100, 6)])
def test_ack_of_another_session_restarts_the_session(mine, his):
    sync = met()

    effects = sync.init_connect_ack(HIM, mine, his)

    assert effects[0] == Send(HIM, (word("cancel_connect"), ME, his))
    assert effects[-1].message[1] == (8, 101)


def test_ack_without_a_session_is_only_cancelled():
    assert fresh().init_connect_ack(HIM, 100, 7) == [Send(HIM, (word("cancel_connect"), ME, 7))]


def test_cancelled_session_is_restarted():
    sync = met()

    effects = sync.cancel_connect(HIM, 100)

    assert SendToLocker((word("cancel"), HIM, 100, [])) in effects
    assert effects[-1].message[1] == (8, 101)
    assert sync.cancel_connect(HIM, 100) == []


def test_names_are_sent_when_both_partitions_are_locked():
    sync = met()
    sync.names.insert(X, P, random_exit_name)

    assert sync.lock_is_set(HIM, 100, LOCK) == [Cast(HIM, (word("exchange"), ME, [(X, P, random_exit_name)], [], 7))]


@pytest.mark.parametrize("locked_first", [True, False])
def test_names_are_compared_when_the_lock_is_set_and_the_names_have_arrived(locked_first):
    sync = met({C: 8})
    locked = lambda: sync.lock_is_set(HIM, 100, LOCK)  # noqa: E731
    his = lambda: sync.exchange(HIM, [(X, Q, random_exit_name)], 100)  # noqa: E731

    first, second = (locked, his) if locked_first else (his, locked)

    assert len(first()) == (1 if locked_first else 0)
    assert second()[-1] == Cast(HIM, (word("resolved"), ME, [], [(C, 8)], UNUSED, [], 7))
    assert sync.names.whereis(X) is None  # only when he has resolved, too


def test_known_nodes_are_sent_to_an_old_peer_without_versions():
    sync = met({C: 8}, vsn=6)
    sync.lock_is_set(HIM, 100, LOCK)

    assert sync.exchange(HIM, [], 100)[-1].message[3] == [C]


def finish(sync, known=(), operations=(), node=HIM):
    sync.lock_is_set(node, 100, LOCK)
    sync.exchange(node, [], 100)
    return sync.resolved(node, list(operations), list(known), [], 100)


def test_end_of_a_session_connects_both_partitions():
    sync = met({C: 8, D: 5})

    effects = finish(sync, [(Z, 8)], [(INSERT, (X, Q, random_exit_name))])

    info = [(word("vsn"), 8), (word("lock"), LOCK)]
    operations = [(INSERT, (X, Q, random_exit_name))]
    announce = [
        (C, (word("new_nodes"), ME, operations, [], [(HIM, 8), (Z, 8)], info)),
        (D, (word("new_nodes"), ME, operations, [], [HIM, Z], info)),
    ]
    assert effects == [Connect(Z), Monitor(Q), SendToLocker((word("cancel"), HIM, 100, announce))]
    assert sync.known == {C: 8, D: 5, HIM: 8, Z: 8}
    assert sync.pending == {}
    assert list(sync.synced) == [HIM]
    assert sync.names.whereis(X) == Q


def test_session_with_a_node_that_the_peer_introduces_ends():
    sync = met()
    sync.nodeup(Z)
    sync.init_connect(Z, (8, 9), hello(ZS))

    effects = finish(sync, [(Z, 8)])

    assert effects[0] == Connect(Z)
    assert effects[1] == SendToLocker((word("cancel"), Z, 101, []))
    assert sync.sessions() == []
    assert sync.pending == {}


def test_resolved_of_the_peer_may_arrive_before_our_own():
    sync = met()
    sync.lock_is_set(HIM, 100, LOCK)

    assert sync.resolved(HIM, [], [], [], 100) == []
    assert [type(effect) for effect in sync.exchange(HIM, [], 100)] == [Cast, SendToLocker]
    assert sync.known == {HIM: 8}


def test_own_node_is_not_added_to_known():
    sync = met()

    effects = finish(sync, [(ME, 8), (HIM, 8)])

    assert Connect not in [type(effect) for effect in effects]
    assert list(sync.known) == [HIM]


def test_node_with_the_smaller_name_resolves_conflicts():
    sync = met(node=Z, locker=ZS)
    sync.names.insert(X, P, b"mine")
    sync.lock_is_set(Z, 100, LOCK)

    (task,) = sync.exchange(Z, [(X, Q, b"his"), (b"new", Q, b"his")], 100)

    assert isinstance(task, Resolve)
    assert task.operations == ((INSERT, (b"new", Q, b"his")),)
    assert [conflict.name for conflict in task.conflicts] == [X]
    assert sync.exchange_ops(Z, 100, [], [b"for him"])[0].message[:3] == (word("resolved"), ME, [b"for him"])


def test_node_with_the_larger_name_does_not_resolve_conflicts():
    sync = met()
    sync.names.insert(X, P, b"mine")
    sync.lock_is_set(HIM, 100, LOCK)

    assert [type(effect) for effect in sync.exchange(HIM, [(X, Q, b"his")], 100)] == [Cast]


def test_conflict_resolution_stops_when_the_session_is_lost():
    sync = met(node=Z, locker=ZS)
    sync.names.insert(X, P, b"mine")
    sync.lock_is_set(Z, 100, LOCK)
    sync.exchange(Z, [(X, Q, b"his")], 100)

    assert StopResolving(Z) in sync.remove_node(Z)


@pytest.mark.parametrize(
    "late",
    [
        lambda sync, tag: sync.lock_is_set(HIM, tag, LOCK),
        lambda sync, tag: sync.exchange(HIM, [(X, Q, random_exit_name)], tag),
        lambda sync, tag: sync.exchange_ops(HIM, tag, [], []),
        lambda sync, tag: sync.resolved(HIM, [(INSERT, (X, Q, random_exit_name))], [(C, 8)], [], tag),
    ],
)
def test_messages_of_another_session_only_cancel_the_lock(late):
    sync = met()

    assert late(sync, 99) == [SendToLocker((word("cancel"), HIM, 99, []))]
    assert late(fresh(), 100) == [SendToLocker((word("cancel"), HIM, 100, []))]
    assert sync.known == {}
    assert sync.names.names() == []


def test_new_nodes_are_added_and_connected():
    sync = fresh({HIM: 8})

    effects = sync.new_nodes([(INSERT, (X, Q, random_exit_name))], [], [(Z, 8), (HIM, 8), (ME, 8)], [])

    assert effects == [Connect(Z), Monitor(Q)]
    assert sync.known == {HIM: 8, Z: 8}


def test_version_of_new_nodes_is_unknown_until_it_is_reported():
    sync = fresh({HIM: 5})

    sync.new_nodes([], [], [Z], [])
    assert sync.known[Z] == 0
    assert sync.new_nodes([], [], [(Z, 8)], []) == []
    assert sync.known[Z] == 8


def test_names_decided_under_a_lost_lock_are_removed():
    sync = fresh({HIM: 8})
    sync.locks.set((word("global"), b"others"), P)

    sync.new_nodes([(INSERT, (X, Q, random_exit_name))], [], [], [(word("lock"), LOCK)])

    assert sync.names.names() == []


def test_names_decided_under_the_current_lock_stay():
    sync = fresh({HIM: 8})
    sync.locks.set(LOCK, P)

    sync.new_nodes([(INSERT, (X, Q, random_exit_name))], [], [], [(word("vsn"), 8), (word("lock"), LOCK)])

    assert sync.names.names() == [X]


def test_in_sync_ends_the_session_without_a_cancel():
    sync = met()
    sync.known[HIM] = 8

    assert sync.in_sync(HIM) == [SendToLocker((word("cancel"), HIM, 100, []))]
    assert sync.pending == {}
    assert list(sync.synced) == [HIM]


def test_removed_node_in_session_gets_cancel_connect():
    sync = met({C: 8})

    assert sync.remove_node(HIM) == [
        SendToLocker((word("cancel"), HIM, 100, [])),
        Send(HIM, (word("cancel_connect"), ME, 7)),
    ]
    assert sync.remove_node(C) == []
    assert sync.known == sync.pending == sync.synced == {}


def test_removed_node_of_an_old_version_gets_no_cancel_connect():
    assert [type(effect) for effect in met(vsn=7).remove_node(HIM)] == [SendToLocker]


def test_lost_node_is_not_connected_again_by_an_older_resolved():
    sync = met()
    sync.lock_is_set(HIM, 100, LOCK)
    sync.resolved(HIM, [], [(Z, 8), (C, 8)], [], 100)

    Partitions(sync, extended_creation=1).lost_connection(HIM, 5, 1, Z, 0.0)

    assert Connect(Z) not in sync.exchange(HIM, [], 100)
    assert sync.known == {HIM: 8, C: 8}


def test_names_of_a_removed_node_are_removed_at_once():
    sync = fresh({HIM: 8})
    sync.names.insert(X, Q, random_exit_name)
    sync.names.insert(Atom("y"), P, random_exit_name)

    sync.remove_node(HIM)

    assert sync.names.names() == [Atom("y")]


def test_removed_node_is_no_longer_in_sync():
    sync = fresh({HIM: 8})
    sync.in_sync(HIM)

    sync.remove_node(HIM)

    assert sync.synced == {}


def test_known_version_is_not_overwritten():
    sync = fresh({Z: 8})

    sync.new_nodes([], [], [(Z, 7), Z], [])

    assert sync.known == {Z: 8}


def test_missing_version_is_filled_in_from_our_own_knowledge():
    sync = met(vsn=6)
    sync.pending[Z] = 7

    finish(sync, [Z])

    assert sync.known == {HIM: 6, Z: 7}


def test_restarted_session_cancels_the_session_of_the_peer():
    sync = met()

    assert Send(HIM, (word("cancel_connect"), ME, 7)) in sync.cancel_connect(HIM, 100)


def test_second_nodeup_starts_no_second_session():
    sync = met()

    assert sync.nodeup(HIM) == []
    assert sync.session_tag(HIM) == 100


def test_version_of_a_node_is_known_from_its_init_connect():
    sync = met({C: 7}, vsn=6)

    assert [sync.node_vsn(node) for node in (ME, HIM, C, Z)] == [8, 6, 7, 0]
    assert [sync.is_potentially_known(node) for node in (HIM, C, Z)] == [True, True, False]


def test_synced_node_that_was_not_introduced_is_rechecked():
    sync = met()

    assert Recheck(HIM, NET_SETUPTIME_SECONDS) in sync.in_sync(HIM)
    assert sync.is_not_introduced(HIM)
    assert not sync.is_not_introduced(Z)
    sync.known[HIM] = 8
    assert not sync.is_not_introduced(HIM)


@pytest.mark.parametrize("garbage", [b"", 7, Atom("x"), None])
def test_value_that_is_not_a_list_counts_as_empty(garbage):
    sync = met({C: 8})
    sync.lock_is_set(HIM, 100, LOCK)
    sync.exchange(HIM, garbage, 100)

    sync.resolved(HIM, garbage, garbage, garbage, 100)
    sync.new_nodes(garbage, garbage, garbage, garbage)

    assert sync.known == {C: 8, HIM: 8}
    assert sync.names.names() == []
