"""Lost connections: which nodes are informed, which node is removed, and which reports are ignored."""

from erlmesh.services.global_.lock_table import LockTable
from erlmesh.services.global_.name_table import NameTable
from erlmesh.services.global_.partitions import LOSS_REPORT_SECONDS, LOST_CONN_INFO_SECONDS, Partitions
from erlmesh.services.global_.protocol import NET_SETUPTIME_SECONDS, Disconnect, Recheck, Send
from erlmesh.services.global_.sync import GlobalSync
from erlmesh.terms import Atom, Pid

ME, A, B, C, OLD, NEW = (Atom(f"{name}@h") for name in ("me", "a", "b", "c", "old", "new"))
LOST, REMOVE = Atom("lost_connection"), Atom("remove_connection")


def partitions(*, enabled=True):
    sync = GlobalSync(ME, NameTable(), LockTable(), first_tag=1)
    sync.locker = Pid(ME, 1, 0, 1)
    sync.known.update({A: 8, B: 7, OLD: 5, C: 0})
    sync.pending[NEW] = 8
    return sync, Partitions(sync, extended_creation=77, enabled=enabled)


def test_loss_is_reported_to_all_nodes_that_understand_it():
    sync, state = partitions()

    effects = state.nodedown(A, 0.0)

    assert effects == [Send(node, (LOST, ME, 77, 1, A)) for node in (B, NEW)]
    assert A not in sync.known


def test_each_loss_has_a_larger_id():
    _, state = partitions()

    assert state.nodedown(A, 0.0)[0].message == (LOST, ME, 77, 1, A)
    assert state.nodedown(OLD, 0.0)[0].message == (LOST, ME, 77, 2, OLD)


def test_without_prevention_a_loss_is_not_reported():
    sync, state = partitions(enabled=False)

    assert state.nodedown(A, 0.0) == []
    assert state.lost_connection(A, 5, 1, B, 0.0) == []
    assert list(sync.known) == [B, OLD, C]


def test_reported_loss_is_forwarded_and_the_lost_node_removed():
    sync, state = partitions()

    effects = state.lost_connection(A, 5, 1, B, 0.0)

    assert effects[:2] == [Send(node, (LOST, A, 5, 1, B)) for node in (B, NEW)]
    assert effects[2:] == [Send(B, (REMOVE, ME)), Recheck(B, NET_SETUPTIME_SECONDS)]
    assert B not in sync.known
    assert state.removing() == [B]
    assert state.is_overlap_disconnect(B)


def test_report_is_handled_once():
    _, state = partitions()
    state.lost_connection(A, 5, 2, B, 0.0)

    assert state.lost_connection(A, 5, 2, B, 1.0) == []
    assert state.lost_connection(A, 5, 1, B, 1.0) == []
    assert state.lost_connection(A, 5, 3, B, 1.0) != []
    assert state.lost_connection(A, 6, 1, B, 1.0) != []
    assert state.lost_connection(B, 5, 2, A, 1.0) != []


def test_later_reports_of_the_same_loss_are_not_forwarded():
    _, state = partitions()
    state.lost_connection(A, 5, 1, C, 0.0)
    late = Atom("late@h")
    state._sync._add_known([(late, 8)])

    assert state.lost_connection(NEW, 9, 1, C, 1.0) == [Send(late, (LOST, NEW, 9, 1, C))]
    assert state.lost_connection(late, 6, 1, C, 1.0) == []


def test_later_reports_of_the_same_loss_do_not_look_at_all_nodes(monkeypatch):
    _, state = partitions()
    looks, partition_peers = [], Partitions._partition_peers
    monkeypatch.setattr(
        Partitions, "_partition_peers", lambda self, node: (looks.append(node), partition_peers(self, node))[1]
    )

    for number in range(100):
        state.lost_connection(Atom(f"reporter{number}@h"), 5, 1, C, 0.0)

    assert len(looks) == 1


def test_node_whose_version_becomes_known_is_informed_by_a_later_report():
    _, state = partitions()
    state.lost_connection(A, 5, 1, B, 0.0)
    state._sync._add_known([(C, 8)])

    assert state.lost_connection(NEW, 9, 1, B, 1.0) == [Send(C, (LOST, NEW, 9, 1, B))]


def test_own_loss_is_not_reported_to_nodes_that_know_of_it():
    _, state = partitions()
    state.lost_connection(A, 5, 1, C, 0.0)

    assert state.nodedown(C, 1.0) == []


def test_loss_after_a_reconnect_is_reported_again():
    _, state = partitions()
    again = [Send(node, (LOST, A, 5, 2, C)) for node in (B, NEW)]
    state.lost_connection(A, 5, 1, C, 0.0)

    assert state.lost_connection(A, 5, 2, C, 1.0)[:2] == again, "the reporter was connected again"
    state.nodeup(C)
    assert Send(NEW, (LOST, B, 5, 1, C)) in state.lost_connection(B, 5, 1, C, 1.0), "this node was connected again"
    assert Send(NEW, (LOST, OLD, 5, 1, C)) in state.lost_connection(OLD, 5, 1, C, LOSS_REPORT_SECONDS + 1.0), (
        "the report has expired"
    )


def test_restarted_node_is_informed_again():
    _, state = partitions()
    state.lost_connection(A, 5, 1, C, 0.0)
    state.nodeup(NEW)

    assert state.lost_connection(B, 9, 1, C, 1.0) == [Send(NEW, (LOST, B, 9, 1, C))]


def test_report_is_forgotten_after_an_hour():
    _, state = partitions()
    state.lost_connection(A, 5, 2, B, 0.0)

    state.lost_connection(A, 5, 2, C, LOST_CONN_INFO_SECONDS)

    assert len(state._seen_reports) == 1
    assert state.lost_connection(A, 5, 2, B, LOST_CONN_INFO_SECONDS) != []


def test_reporter_that_lost_this_node_is_removed():
    sync, state = partitions()

    effects = state.lost_connection(A, 5, 1, ME, 0.0)

    assert effects[-2:] == [Send(A, (REMOVE, ME)), Recheck(A, NET_SETUPTIME_SECONDS)]
    assert A not in sync.known
    assert B in sync.known
    assert not state.is_overlap_disconnect(A)


def test_lost_node_of_an_old_version_is_disconnected():
    _, state = partitions()

    assert [type(effect) for effect in state.lost_connection(A, 5, 1, OLD, 0.0)][2:] == [Disconnect]


def test_loss_of_an_unknown_node_is_only_forwarded():
    _, state = partitions()

    effects = state.lost_connection(A, 5, 1, Atom("unknown@h"), 0.0)

    assert {type(effect) for effect in effects} == {Send}
    assert state.removing() == []


def test_nodedown_of_a_removed_node_is_not_reported():
    _, state = partitions()
    state.lost_connection(A, 5, 1, B, 0.0)

    assert state.nodedown(B, 0.0) == []
    assert state.removing() == []
    state.nodeup(B)
    assert state.nodedown(B, 0.0) != []


def test_remove_connection_disconnects_without_a_report():
    sync, state = partitions()

    assert state.remove_connection(A) == [Disconnect(A, "disconnected")]
    assert A not in sync.known
    assert state.nodedown(A, 0.0) == []


def test_remove_connection_from_an_unknown_node_is_ignored():
    _, state = partitions()

    assert state.remove_connection(Atom("unknown@h")) == []
    assert state.nodedown(Atom("unknown@h"), 0.0) != []


def test_node_in_session_counts_as_known():
    sync, state = partitions()

    assert state.remove_connection(NEW) == [Disconnect(NEW, "disconnected")]
    assert NEW not in sync.pending


def test_node_that_does_not_disconnect_in_time_is_disconnected():
    _, state = partitions()
    state.lost_connection(A, 5, 1, B, 0.0)

    assert state.recheck(B, connected=True) == [Disconnect(B, "disconnected")]
    assert state.nodedown(B, 0.0) == []
    assert state.recheck(B, connected=True) == []


def test_node_removed_before_its_nodeup_is_asked_to_disconnect_at_nodeup():
    _, state = partitions()
    state.lost_connection(A, 5, 1, B, 0.0)

    assert state.nodeup(B) == [Send(B, (REMOVE, ME)), Recheck(B, NET_SETUPTIME_SECONDS)]


def test_removed_node_that_never_connected_may_connect_again():
    _, state = partitions()
    state.lost_connection(A, 5, 1, B, 0.0)

    state.recheck(B, connected=False)

    assert Recheck not in [type(effect) for effect in state.nodeup(B)]
    assert state.nodeup(A) == []


def test_synced_node_that_is_not_known_may_send_remove_connection():
    sync, state = partitions()
    sync.in_sync(Atom("early@h"))

    assert state.remove_connection(Atom("early@h")) == [Disconnect(Atom("early@h"), "disconnected")]


def test_synced_node_that_was_not_introduced_is_disconnected_after_the_recheck():
    sync, state = partitions()
    sync.known.pop(B)
    (recheck,) = sync.in_sync(B)

    effects = state.recheck(B, connected=True)

    assert recheck == Recheck(B, NET_SETUPTIME_SECONDS)
    assert Send(B, (REMOVE, ME)) in effects
    assert B in state.removing()
    assert not sync.is_not_introduced(B)


def test_synced_node_that_is_introduced_later_stays_connected():
    sync, state = partitions()
    sync.known.pop(B)
    sync.in_sync(B)
    sync.new_nodes([], [], [(B, 8)], [])

    assert state.recheck(B, connected=True) == []
