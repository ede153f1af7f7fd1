"""Sessions: the messages of two servers, one by one. Their forms are those of a capture of OTP 25."""

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

ME, PEER, C, D, Z = (Atom(f"{name}@h") for name in ("m", "h", "c", "d", "z"))
LOCKER, PEER_LOCKER = Pid(ME, 2, 0, 1), Pid(PEER, 56, 0, 1)
ZS = Pid(Z, 56, 0, 1)
P, Q = Pid(ME, 5, 0, 1), Pid(PEER, 6, 0, 1)
X, INSERT, UNUSED = Atom("x"), Atom("insert"), Atom("unused")
NO_PID = Atom("no_longer_a_pid")
LOCK = (Atom("global"), [LOCKER, PEER_LOCKER])


def init_msg(locker=PEER_LOCKER):
    return (Atom("locker"), NO_PID, Map(), locker)


def new_sync(known=()):
    locks, names = LockTable(), NameTable()
    sync = GlobalSync(ME, names, locks, first_tag=100)
    sync.locker = LOCKER
    sync.known.update(known)
    sync.names, sync.locks = names, locks
    return sync


def in_session(known=(), *, node=PEER, locker=PEER_LOCKER, vsn=8):
    """A session in which both init_connects were exchanged: our tag is 100, the peer's is 7."""
    sync = new_sync(known)
    sync.nodeup(node)
    sync.init_connect(node, (vsn, 7), init_msg(locker))
    return sync


def test_nodeup_sends_init_connect():
    sync = new_sync({C: 8})

    assert sync.nodeup(PEER) == [
        Cast(PEER, (Atom("init_connect"), (8, 100), ME, (Atom("locker"), NO_PID, Map({C: 8}), LOCKER)))
    ]


def test_known_node_gets_no_init_connect():
    assert new_sync({PEER: 8}).nodeup(PEER) == []


def test_init_connect_is_acknowledged_and_given_to_the_locker():
    sync = new_sync()
    sync.nodeup(PEER)

    assert sync.init_connect(PEER, (8, 7), init_msg()) == [
        SendToLocker((Atom("his_the_locker"), PEER_LOCKER, 8, 7, 100)),
        Send(PEER, (Atom("init_connect_ack"), ME, 7, 100)),
    ]
    assert sync.pending == {PEER: 8}


def test_init_connect_before_nodeup_is_kept():
    sync = new_sync()

    assert sync.init_connect(PEER, (8, 7), init_msg()) == []
    assert [type(effect) for effect in sync.nodeup(PEER)] == [Cast, SendToLocker, Send]


def test_init_connect_of_an_earlier_connection_is_not_kept():
    sync = new_sync()
    sync.init_connect(PEER, (8, 7), init_msg())
    sync.remove_node(PEER)

    assert [type(effect) for effect in sync.nodeup(PEER)] == [Cast]


@pytest.mark.parametrize(("peer_vsn", "used_vsn"), [(5, 5), (6, 6), (7, 7), (8, 8), (9, 8)])
def test_lower_version_is_used(peer_vsn, used_vsn):
    sync = new_sync()
    sync.nodeup(PEER)

    effects = sync.init_connect(PEER, (peer_vsn, 7, b"of the future")[: 2 if peer_vsn < 9 else 3], init_msg())

    assert effects[0] == SendToLocker((Atom("his_the_locker"), PEER_LOCKER, used_vsn, 7, 100))
    assert len(effects) == (2 if peer_vsn >= 8 else 1)
    assert sync.pending == {PEER: peer_vsn}


@pytest.mark.parametrize("version", [(4, 7), 8, (b"8", 7), ()])
def test_init_connect_of_an_unsupported_version_is_ignored(version):
    sync = new_sync()
    sync.nodeup(PEER)

    assert sync.init_connect(PEER, version, init_msg()) == []


def test_second_init_connect_restarts_the_session():
    sync = in_session()

    effects = sync.init_connect(PEER, (8, 8), init_msg())

    assert effects[0] == Send(PEER, (Atom("cancel_connect"), ME, 8))
    assert SendToLocker((Atom("cancel"), PEER, 100, [])) in effects
    assert effects[-1].message[1] == (8, 101)
    assert sync.pending == {}


def test_second_init_connect_of_an_old_version_disconnects():
    sync = in_session(vsn=5)

    assert [type(effect) for effect in sync.init_connect(PEER, (5, 8), init_msg())] == [Disconnect]


def test_ack_of_the_current_session_changes_nothing():
    assert in_session().init_connect_ack(PEER, 100, 7) == []


@pytest.mark.parametrize(("acked_tag", "peer_tag"), [(99, 7), (100, 6)])
def test_ack_of_another_session_restarts_the_session(acked_tag, peer_tag):
    sync = in_session()

    effects = sync.init_connect_ack(PEER, acked_tag, peer_tag)

    assert effects[0] == Send(PEER, (Atom("cancel_connect"), ME, peer_tag))
    assert effects[-1].message[1] == (8, 101)


def test_ack_without_a_session_is_only_cancelled():
    assert new_sync().init_connect_ack(PEER, 100, 7) == [Send(PEER, (Atom("cancel_connect"), ME, 7))]


def test_cancelled_session_is_restarted():
    sync = in_session()

    effects = sync.cancel_connect(PEER, 100)

    assert SendToLocker((Atom("cancel"), PEER, 100, [])) in effects
    assert effects[-1].message[1] == (8, 101)
    assert sync.cancel_connect(PEER, 100) == []


def test_names_are_sent_when_both_partitions_are_locked():
    sync = in_session()
    sync.names.insert(X, P, random_exit_name)

    assert sync.lock_is_set(PEER, 100, LOCK) == [Cast(PEER, (Atom("exchange"), ME, [(X, P, random_exit_name)], [], 7))]


@pytest.mark.parametrize("locked_first", [True, False])
def test_names_are_compared_when_the_lock_is_set_and_the_names_have_arrived(locked_first):
    sync = in_session({C: 8})
    lock_set = lambda: sync.lock_is_set(PEER, 100, LOCK)  # noqa: E731
    names_arrive = lambda: sync.exchange(PEER, [(X, Q, random_exit_name)], 100)  # noqa: E731

    first, second = (lock_set, names_arrive) if locked_first else (names_arrive, lock_set)

    assert len(first()) == (1 if locked_first else 0)
    assert second()[-1] == Cast(PEER, (Atom("resolved"), ME, [], [(C, 8)], UNUSED, [], 7))
    assert sync.names.whereis(X) is None  # not before the peer has resolved its conflicts


def test_known_nodes_are_sent_to_an_old_peer_without_versions():
    sync = in_session({C: 8}, vsn=6)
    sync.lock_is_set(PEER, 100, LOCK)

    assert sync.exchange(PEER, [], 100)[-1].message[3] == [C]


def finish(sync, known=(), operations=(), node=PEER):
    sync.lock_is_set(node, 100, LOCK)
    sync.exchange(node, [], 100)
    return sync.resolved(node, list(operations), list(known), [], 100)


def test_end_of_a_session_connects_both_partitions():
    sync = in_session({C: 8, D: 5})

    effects = finish(sync, [(Z, 8)], [(INSERT, (X, Q, random_exit_name))])

    info = [(Atom("vsn"), 8), (Atom("lock"), LOCK)]
    operations = [(INSERT, (X, Q, random_exit_name))]
    announce = [
        (C, (Atom("new_nodes"), ME, operations, [], [(PEER, 8), (Z, 8)], info)),
        (D, (Atom("new_nodes"), ME, operations, [], [PEER, Z], info)),
    ]
    assert effects == [Connect(Z), Monitor(Q), SendToLocker((Atom("cancel"), PEER, 100, announce))]
    assert sync.known == {C: 8, D: 5, PEER: 8, Z: 8}
    assert sync.pending == {}
    assert list(sync.synced) == [PEER]
    assert sync.names.whereis(X) == Q


def test_session_with_a_node_that_the_peer_introduces_ends():
    sync = in_session()
    sync.nodeup(Z)
    sync.init_connect(Z, (8, 9), init_msg(ZS))

    effects = finish(sync, [(Z, 8)])

    assert effects[0] == Connect(Z)
    assert effects[1] == SendToLocker((Atom("cancel"), Z, 101, []))
    assert sync.sessions() == []
    assert sync.pending == {}


def test_resolved_of_the_peer_may_arrive_before_our_own():
    sync = in_session()
    sync.lock_is_set(PEER, 100, LOCK)

    assert sync.resolved(PEER, [], [], [], 100) == []
    assert [type(effect) for effect in sync.exchange(PEER, [], 100)] == [Cast, SendToLocker]
    assert sync.known == {PEER: 8}


def test_own_node_is_not_added_to_known():
    sync = in_session()

    effects = finish(sync, [(ME, 8), (PEER, 8)])

    assert Connect not in [type(effect) for effect in effects]
    assert list(sync.known) == [PEER]


def test_node_with_the_smaller_name_resolves_conflicts():
    sync = in_session(node=Z, locker=ZS)
    sync.names.insert(X, P, b"local")
    sync.lock_is_set(Z, 100, LOCK)

    (task,) = sync.exchange(Z, [(X, Q, b"remote"), (b"new", Q, b"remote")], 100)

    assert isinstance(task, Resolve)
    assert task.operations == ((INSERT, (b"new", Q, b"remote")),)
    assert [conflict.name for conflict in task.conflicts] == [X]
    assert sync.exchange_ops(Z, 100, [], [b"for the peer"])[0].message[:3] == (Atom("resolved"), ME, [b"for the peer"])


def test_node_with_the_larger_name_does_not_resolve_conflicts():
    sync = in_session()
    sync.names.insert(X, P, b"local")
    sync.lock_is_set(PEER, 100, LOCK)

    assert [type(effect) for effect in sync.exchange(PEER, [(X, Q, b"remote")], 100)] == [Cast]


def test_conflict_resolution_stops_when_the_session_is_lost():
    sync = in_session(node=Z, locker=ZS)
    sync.names.insert(X, P, b"local")
    sync.lock_is_set(Z, 100, LOCK)
    sync.exchange(Z, [(X, Q, b"remote")], 100)

    assert StopResolving(Z) in sync.remove_node(Z)


@pytest.mark.parametrize(
    "late",
    [
        lambda sync, tag: sync.lock_is_set(PEER, tag, LOCK),
        lambda sync, tag: sync.exchange(PEER, [(X, Q, random_exit_name)], tag),
        lambda sync, tag: sync.exchange_ops(PEER, tag, [], []),
        lambda sync, tag: sync.resolved(PEER, [(INSERT, (X, Q, random_exit_name))], [(C, 8)], [], tag),
    ],
)
def test_messages_of_another_session_only_cancel_the_lock(late):
    sync = in_session()

    assert late(sync, 99) == [SendToLocker((Atom("cancel"), PEER, 99, []))]
    assert late(new_sync(), 100) == [SendToLocker((Atom("cancel"), PEER, 100, []))]
    assert sync.known == {}
    assert sync.names.names() == []


def test_new_nodes_are_added_and_connected():
    sync = new_sync({PEER: 8})

    effects = sync.new_nodes([(INSERT, (X, Q, random_exit_name))], [], [(Z, 8), (PEER, 8), (ME, 8)], [])

    assert effects == [Connect(Z), Monitor(Q)]
    assert sync.known == {PEER: 8, Z: 8}


def test_version_of_new_nodes_is_unknown_until_it_is_reported():
    sync = new_sync({PEER: 5})

    sync.new_nodes([], [], [Z], [])
    assert sync.known[Z] == 0
    assert sync.new_nodes([], [], [(Z, 8)], []) == []
    assert sync.known[Z] == 8


def test_names_decided_under_a_lost_lock_are_removed():
    sync = new_sync({PEER: 8})
    sync.locks.set((Atom("global"), b"others"), P)

    sync.new_nodes([(INSERT, (X, Q, random_exit_name))], [], [], [(Atom("lock"), LOCK)])

    assert sync.names.names() == []


def test_names_decided_under_the_current_lock_stay():
    sync = new_sync({PEER: 8})
    sync.locks.set(LOCK, P)

    sync.new_nodes([(INSERT, (X, Q, random_exit_name))], [], [], [(Atom("vsn"), 8), (Atom("lock"), LOCK)])

    assert sync.names.names() == [X]


def test_in_sync_ends_the_session_without_a_cancel():
    sync = in_session()
    sync.known[PEER] = 8

    assert sync.in_sync(PEER) == [SendToLocker((Atom("cancel"), PEER, 100, []))]
    assert sync.pending == {}
    assert list(sync.synced) == [PEER]


def test_removed_node_in_session_gets_cancel_connect():
    sync = in_session({C: 8})

    assert sync.remove_node(PEER) == [
        SendToLocker((Atom("cancel"), PEER, 100, [])),
        Send(PEER, (Atom("cancel_connect"), ME, 7)),
    ]
    assert sync.remove_node(C) == []
    assert sync.known == sync.pending == sync.synced == {}


def test_removed_node_of_an_old_version_gets_no_cancel_connect():
    assert [type(effect) for effect in in_session(vsn=7).remove_node(PEER)] == [SendToLocker]


def test_lost_node_is_not_connected_again_by_an_older_resolved():
    sync = in_session()
    sync.lock_is_set(PEER, 100, LOCK)
    sync.resolved(PEER, [], [(Z, 8), (C, 8)], [], 100)

    Partitions(sync, extended_creation=1).lost_connection(PEER, 5, 1, Z, 0.0)

    assert Connect(Z) not in sync.exchange(PEER, [], 100)
    assert sync.known == {PEER: 8, C: 8}


def test_names_of_a_removed_node_are_removed_at_once():
    sync = new_sync({PEER: 8})
    sync.names.insert(X, Q, random_exit_name)
    sync.names.insert(Atom("y"), P, random_exit_name)

    sync.remove_node(PEER)

    assert sync.names.names() == [Atom("y")]


def test_removed_node_is_no_longer_in_sync():
    sync = new_sync({PEER: 8})
    sync.in_sync(PEER)

    sync.remove_node(PEER)

    assert sync.synced == {}


def test_known_version_is_not_overwritten():
    sync = new_sync({Z: 8})

    sync.new_nodes([], [], [(Z, 7), Z], [])

    assert sync.known == {Z: 8}


def test_missing_version_is_filled_in_from_our_own_knowledge():
    sync = in_session(vsn=6)
    sync.pending[Z] = 7

    finish(sync, [Z])

    assert sync.known == {PEER: 6, Z: 7}


def test_restarted_session_cancels_the_session_of_the_peer():
    sync = in_session()

    assert Send(PEER, (Atom("cancel_connect"), ME, 7)) in sync.cancel_connect(PEER, 100)


def test_second_nodeup_starts_no_second_session():
    sync = in_session()

    assert sync.nodeup(PEER) == []
    assert sync.session_tag(PEER) == 100


def test_version_of_a_node_is_known_from_its_init_connect():
    sync = in_session({C: 7}, vsn=6)

    assert [sync.node_vsn(node) for node in (ME, PEER, C, Z)] == [8, 6, 7, 0]
    assert [sync.is_potentially_known(node) for node in (PEER, C, Z)] == [True, True, False]


def test_synced_node_that_was_not_introduced_is_rechecked():
    sync = in_session()

    assert Recheck(PEER, NET_SETUPTIME_SECONDS) in sync.in_sync(PEER)
    assert sync.is_not_introduced(PEER)
    assert not sync.is_not_introduced(Z)
    sync.known[PEER] = 8
    assert not sync.is_not_introduced(PEER)


@pytest.mark.parametrize("garbage", [b"", 7, Atom("x"), None])
def test_value_that_is_not_a_list_counts_as_empty(garbage):
    sync = in_session({C: 8})
    sync.lock_is_set(PEER, 100, LOCK)
    sync.exchange(PEER, garbage, 100)

    sync.resolved(PEER, garbage, garbage, garbage, 100)
    sync.new_nodes(garbage, garbage, garbage, garbage)

    assert sync.known == {C: 8, PEER: 8}
    assert sync.names.names() == []
