"""Losses: who is told, who is left, what is heard once."""

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


def test_a_loss_is_told_to_all_that_understand_it():
    sync, mine = partitions()

    effects = mine.nodedown(A, 0.0)

    assert effects == [Send(node, (LOST, ME, 77, 1, A)) for node in (B, NEW)]
    assert A not in sync.known


def test_each_loss_has_a_larger_number():
    _, mine = partitions()

    assert mine.nodedown(A, 0.0)[0].message == (LOST, ME, 77, 1, A)
    assert mine.nodedown(OLD, 0.0)[0].message == (LOST, ME, 77, 2, OLD)


def test_without_the_protection_a_loss_is_nobody_elses_business():
    sync, mine = partitions(enabled=False)

    assert mine.nodedown(A, 0.0) == []
    assert mine.lost_connection(A, 5, 1, B, 0.0) == []
    assert list(sync.known) == [B, OLD, C]


def test_a_loss_elsewhere_is_passed_on_and_the_lost_one_left():
    sync, mine = partitions()

    effects = mine.lost_connection(A, 5, 1, B, 0.0)

    assert effects[:2] == [Send(node, (LOST, A, 5, 1, B)) for node in (B, NEW)]
    assert effects[2:] == [Send(B, (REMOVE, ME)), Recheck(B, NET_SETUPTIME_SECONDS)]
    assert B not in sync.known
    assert mine.removing() == [B]
    assert mine.is_overlap_disconnect(B)


def test_a_loss_is_news_once():
    _, mine = partitions()
    mine.lost_connection(A, 5, 2, B, 0.0)

    assert mine.lost_connection(A, 5, 2, B, 1.0) == []
    assert mine.lost_connection(A, 5, 1, B, 1.0) == []
    assert mine.lost_connection(A, 5, 3, B, 1.0) != []
    assert mine.lost_connection(A, 6, 1, B, 1.0) != []
    assert mine.lost_connection(B, 5, 2, A, 1.0) != []


def test_nobody_is_told_again_that_others_lost_the_same_node():
    _, mine = partitions()
    mine.lost_connection(A, 5, 1, C, 0.0)
    late = Atom("late@h")
    mine._sync.known[late] = 8

    assert mine.lost_connection(NEW, 9, 1, C, 1.0) == [Send(late, (LOST, NEW, 9, 1, C))]
    assert mine.lost_connection(late, 6, 1, C, 1.0) == []


def test_our_own_loss_is_no_news_for_those_whom_we_told_of_another_s():
    _, mine = partitions()
    mine.lost_connection(A, 5, 1, C, 0.0)

    assert mine.nodedown(C, 1.0) == []


def test_when_a_node_was_back_in_between_its_loss_is_told_anew():
    _, mine = partitions()
    again = [Send(node, (LOST, A, 5, 2, C)) for node in (B, NEW)]
    mine.lost_connection(A, 5, 1, C, 0.0)

    assert mine.lost_connection(A, 5, 2, C, 1.0)[:2] == again, "who reported it had it back"
    mine.nodeup(C)
    assert Send(NEW, (LOST, B, 5, 1, C)) in mine.lost_connection(B, 5, 1, C, 1.0), "we had it back"
    assert Send(NEW, (LOST, OLD, 5, 1, C)) in mine.lost_connection(OLD, 5, 1, C, LOSS_REPORT_SECONDS + 1.0), "long ago"


def test_who_begins_anew_knows_nothing_of_what_a_former_life_was_told():
    _, mine = partitions()
    mine.lost_connection(A, 5, 1, C, 0.0)
    mine.nodeup(NEW)

    assert mine.lost_connection(B, 9, 1, C, 1.0) == [Send(NEW, (LOST, B, 9, 1, C))]


def test_a_loss_is_forgotten_after_an_hour():
    _, mine = partitions()
    mine.lost_connection(A, 5, 2, B, 0.0)

    mine.lost_connection(A, 5, 2, C, LOST_CONN_INFO_SECONDS)

    assert len(mine._seen_reports) == 1
    assert mine.lost_connection(A, 5, 2, B, LOST_CONN_INFO_SECONDS) != []


def test_whoever_lost_us_is_left():
    sync, mine = partitions()

    effects = mine.lost_connection(A, 5, 1, ME, 0.0)

    assert effects[-2:] == [Send(A, (REMOVE, ME)), Recheck(A, NET_SETUPTIME_SECONDS)]
    assert A not in sync.known
    assert B in sync.known
    assert not mine.is_overlap_disconnect(A)


def test_an_old_node_that_was_lost_is_hung_up_on():
    _, mine = partitions()

    assert [type(effect) for effect in mine.lost_connection(A, 5, 1, OLD, 0.0)][2:] == [Disconnect]


def test_a_loss_of_a_stranger_is_passed_on_only():
    _, mine = partitions()

    effects = mine.lost_connection(A, 5, 1, Atom("stranger@h"), 0.0)

    assert {type(effect) for effect in effects} == {Send}
    assert mine.removing() == []


def test_the_end_of_a_connection_that_was_given_up_is_not_announced():
    _, mine = partitions()
    mine.lost_connection(A, 5, 1, B, 0.0)

    assert mine.nodedown(B, 0.0) == []
    assert mine.removing() == []
    mine.nodeup(B)
    assert mine.nodedown(B, 0.0) != []


def test_whoever_asks_us_to_hang_up_is_hung_up_on_in_silence():
    sync, mine = partitions()

    assert mine.remove_connection(A) == [Disconnect(A, "disconnected")]
    assert A not in sync.known
    assert mine.nodedown(A, 0.0) == []


def test_a_stranger_cannot_make_us_hang_up():
    _, mine = partitions()

    assert mine.remove_connection(Atom("stranger@h")) == []
    assert mine.nodedown(Atom("stranger@h"), 0.0) != []


def test_a_node_in_session_is_as_good_as_known():
    sync, mine = partitions()

    assert mine.remove_connection(NEW) == [Disconnect(NEW, "disconnected")]
    assert NEW not in sync.pending


def test_who_was_asked_to_hang_up_and_did_not_is_hung_up_on():
    _, mine = partitions()
    mine.lost_connection(A, 5, 1, B, 0.0)

    assert mine.recheck(B, connected=True) == [Disconnect(B, "disconnected")]
    assert mine.nodedown(B, 0.0) == []
    assert mine.recheck(B, connected=True) == []


def test_who_was_given_up_before_it_was_connected_is_asked_when_it_is():
    _, mine = partitions()
    mine.lost_connection(A, 5, 1, B, 0.0)

    assert mine.nodeup(B) == [Send(B, (REMOVE, ME)), Recheck(B, NET_SETUPTIME_SECONDS)]


def test_who_was_given_up_and_never_connected_may_come_again():
    _, mine = partitions()
    mine.lost_connection(A, 5, 1, B, 0.0)

    mine.recheck(B, connected=False)

    assert Recheck not in [type(effect) for effect in mine.nodeup(B)]
    assert mine.nodeup(A) == []


def test_who_is_in_sync_with_us_may_ask_us_to_hang_up_before_we_were_told_of_it():
    sync, mine = partitions()
    sync.in_sync(Atom("early@h"))

    assert mine.remove_connection(Atom("early@h")) == [Disconnect(Atom("early@h"), "disconnected")]


def test_who_says_in_sync_and_has_been_introduced_by_nobody_is_to_hang_up_and_begin_anew():
    sync, mine = partitions()
    sync.known.pop(B)
    (recheck,) = sync.in_sync(B)

    effects = mine.recheck(B, connected=True)

    assert recheck == Recheck(B, NET_SETUPTIME_SECONDS)
    assert Send(B, (REMOVE, ME)) in effects
    assert B in mine.removing()
    assert not sync.is_not_introduced(B)


def test_who_says_in_sync_before_others_introduce_it_is_welcome():
    sync, mine = partitions()
    sync.known.pop(B)
    sync.in_sync(B)
    sync.new_nodes([], [], [(B, 8)], [])

    assert mine.recheck(B, connected=True) == []
