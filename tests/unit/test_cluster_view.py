"""What an observer makes of views: reports, events, and what is kept of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh import Atom, Pid, Ref
from erlmesh.core.cluster_view.checked import checked_view
from erlmesh.core.cluster_view.cluster import FORGET_AFTER, MAX_EVENTS_OF_A_VIEW, ClusterView
from erlmesh.core.cluster_view.history import History
from erlmesh.core.cluster_view.link_memory import LOST_FOR, SLOW_BYTES
from erlmesh.core.cluster_view.pace import view_interval
from erlmesh.core.cluster_view.shapes import MAX_GROUPS, MAX_MEMBERS_IN_ALL, MAX_NODES
from erlmesh.core.cluster_view.shards import ShardTable
from erlmesh.core.cluster_view.texts import name_text, parse_pid, pid_text, term_name, term_text
from terms_strategy import terms

OBSERVER, A, B, C = "map@h", "a@h", "b@h", "c@h"


def link(state="up", **values):
    return {"state": state, **values}


def view(links=(), **values):
    """A view, as a node sends it."""
    return checked_view({"kind": "python", "tick_time": 60, "links": dict(links), **values})


def group(name, *members, more=0):
    listed = [{"pid": pid, "node": node, "count": 1} for node, pid in members]
    return {"scope": "pg", "group": name, "members": listed, "more": more}


@pytest.fixture
def cluster():
    """The nodes ``a`` and ``b`` are connected with the observer and with each other. The time is 0."""
    found = ClusterView(OBSERVER, is_member=False)
    for node, peer in ((A, B), (B, A)):
        found.node_up(node, 0)
        found.put_view(node, view({peer: link()}, groups=[], names={}, shards={}), "push", 0)
    found.take_updates()
    return found


def events(cluster):
    """The kinds and sentences of all events, without those of the start."""
    return [(event["kind"], event["text"]) for event in cluster.history.events() if event["kind"] != "node_up"]


# Links


def test_a_link_is_drawn_from_two_reports(cluster):
    cluster.put_view(A, view({B: link("reconnecting", reason="net_tick_timeout", attempt=2, next=1.5)}), "push", 1)

    assert cluster.report(A)["links"][B]["state"] == "reconnecting"
    assert cluster.report(B)["links"][A]["state"] == "up"
    assert events(cluster) == [
        ("link_down", f"{A} has lost {B}: net_tick_timeout."),
        ("reconnecting", f"{A} tries to connect with {B} again."),
    ]


def put_queue(cluster, at, queued, sent=0):
    cluster.put_view(A, view({B: link(queued=queued, bytes_in=0, bytes_out=sent)}), "push", at)
    return cluster.report(A)["links"][B]["slow"]


def test_a_peer_reads_slowly_when_much_has_waited_for_it_for_two_seconds(cluster):
    much = SLOW_BYTES + 1
    assert [put_queue(cluster, at, much) for at in (1, 3, 3.1)] == [False, False, True]
    put_queue(cluster, 5, 26_000_000)
    assert put_queue(cluster, 6, SLOW_BYTES) is False

    assert events(cluster) == [
        ("slow", f"{B} reads slowly: 1.0 MB wait for it on {A}."),
        ("fast", f"{B} reads again what {A} sends."),
    ]


def test_a_queue_that_is_full_for_a_moment_only_is_not_slow(cluster):
    assert not any(
        put_queue(cluster, at, queued) for at, queued in ((1, 9_000_000), (2, 0), (3, 9_000_000), (4, 9_000_000))
    )


def test_a_fast_transfer_with_a_full_queue_is_not_slow(cluster):
    assert not any(put_queue(cluster, at, 1_200_000, sent=at * 90_000_000) for at in range(1, 9))


def test_a_lost_link_is_not_slow_and_a_new_one_counts_again(cluster):
    assert [put_queue(cluster, at, 9_000_000) for at in (1, 4)] == [False, True]
    cluster.put_view(A, view({B: link("down")}), "push", 5)
    assert cluster.report(A)["links"][B]["slow"] is False
    assert put_queue(cluster, 6, 9_000_000) is False


def test_a_link_that_is_told_no_more_is_down_for_a_while(cluster):
    cluster.put_view(A, view(), "poll", 1)
    assert cluster.report(A)["links"][B]["state"] == "down"

    cluster.put_view(A, view(), "poll", 1 + LOST_FOR)
    assert cluster.report(A)["links"] == {}


def test_a_link_has_a_rate_from_its_second_look_on(cluster):
    assert cluster.report(A)["links"][B]["in"] is None
    for at, total in ((1, 1000), (1.1, 1100), (3, 5000)):
        cluster.put_view(A, view({B: link(bytes_in=total, bytes_out=0)}), "push", at)
    assert (cluster.report(A)["links"][B]["in"], cluster.report(A)["links"][B]["out"]) == (2000.0, 0.0)

    cluster.put_view(A, view({B: link(bytes_in=10, bytes_out=0)}), "push", 5)
    assert cluster.report(A)["links"][B]["in"] is None, "the counter of a new connection starts from 0"


def test_half_a_tick_time_of_silence_is_an_event_and_so_is_its_end(cluster):
    for at, silent in ((1, 29), (2, 31), (3, 33), (4, 0)):
        cluster.put_view(A, view({B: link(silent=silent)}), "push", at)

    assert [kind for kind, _ in events(cluster)] == ["silent", "heard"]


def test_links_with_an_observer_that_only_looks_are_left_out(cluster):
    cluster.put_view(A, view({OBSERVER: link(hidden=True), B: link()}), "push", 1)

    assert cluster.report(A)["links"].keys() == {B}
    assert events(cluster) == []


# Groups


def test_the_node_of_a_process_tells_its_changes_once(cluster):
    joined = [group("g", (A, "<0.1.0>"))]
    cluster.put_view(B, view({A: link()}, groups=joined), "push", 1)
    assert events(cluster) == []
    cluster.put_view(A, view({B: link()}, groups=joined), "push", 1.1)
    assert events(cluster) == [("joined", f"<0.1.0> of {A} has joined g.")]

    left = [{"scope": "pg", "group": "g", "pid": "<0.1.0>", "reason": "killed"}]
    cluster.put_view(A, view({B: link()}, groups=[], left=left), "push", 2)
    cluster.put_view(B, view({A: link()}, groups=[]), "push", 2.1)
    assert events(cluster)[1:] == [("left", f"<0.1.0> of {A} is no member of g any more: it ended with killed.")]


def test_a_lost_node_says_no_word_so_the_first_other_one_does(cluster):
    for node, peer in ((A, B), (B, A)):
        cluster.put_view(node, view({peer: link()}, groups=[group("g", (B, "<0.1.0>"))]), "push", 1)
    cluster.node_up(C, 1)
    cluster.put_view(C, view({A: link(), B: link()}, groups=[group("g", (B, "<0.1.0>"))]), "push", 1)

    # `a` may report before the observer itself has lost `b`, and `c` afterwards.
    cluster.put_view(A, view({B: link("down")}, groups=[]), "push", 2)
    assert not any(kind == "left" for kind, _ in events(cluster))
    cluster.node_down(B, "connection_closed", 2.1)
    left = [text for kind, text in events(cluster) if kind == "left"]
    cluster.put_view(C, view({A: link()}, groups=[]), "push", 2.2)

    assert left == [text for kind, text in events(cluster) if kind == "left"]
    assert left == [f"<0.1.0> of {B} is no member of g any more: its node is not connected."]


def test_members_that_come_into_a_list_that_is_cut_have_not_joined(cluster):
    cluster.put_view(A, view(groups=[group("g", (A, "<0.1.0>"), more=7)]), "push", 1)
    cluster.put_view(A, view(groups=[group("g", (A, "<0.2.0>"), more=6)]), "push", 2)

    assert not any(kind in ("joined", "left") for kind, _ in events(cluster))


def test_a_storm_of_changes_is_counted(cluster):
    members = [(A, f"<0.{number}.0>") for number in range(150)]
    cluster.put_view(A, view({B: link()}, groups=[group("g", *members)]), "push", 1)

    told = events(cluster)
    assert len(told) == MAX_EVENTS_OF_A_VIEW + 1
    assert told[-1] == ("dropped", f"{150 - MAX_EVENTS_OF_A_VIEW} more changes of {A} are not listed.")


def test_names_and_shards_change(cluster):
    named = {"leader": {"pid": "<0.1.0>", "node": A}}
    shards = {"orders": {"count": 4, "holders": {A: [0, 3]}}}
    cluster.put_view(A, view({B: link()}, names=named, shards=shards), "push", 1)
    shards = {"orders": {"count": 4, "holders": {A: [0]}}}
    cluster.put_view(A, view({B: link()}, names={}, shards=shards), "push", 2)

    assert events(cluster) == [
        ("named", f"<0.1.0> of {A} has the global name leader."),
        ("shard_taken", f"{A} has taken 2 shards (0, 3) of orders."),
        ("unnamed", "The global name leader is free."),
        ("shard_released", f"{A} has released shard 3 of orders."),
    ]


def test_a_view_without_groups_keeps_the_groups(cluster):
    cluster.put_view(A, view({B: link()}, groups=[group("g", (A, "<0.1.0>"))]), "push", 1)
    cluster.take_updates()
    cluster.put_view(A, view({B: link()}), "push", 2)

    assert [each["group"] for each in cluster.report(A)["groups"]] == ["g"]
    assert cluster.take_updates().reports == {A: False}


# Nodes


def test_a_lost_node_is_kept_without_its_links_and_forgotten_in_the_end(cluster):
    cluster.node_down(A, "connection_closed", 1)
    cluster.put_view(B, view({A: link("reconnecting")}), "push", 1)
    cluster.tick(2)
    report = cluster.report(A)
    assert (report["alive"], report["links"], report["kind"]) == (False, {}, "python")

    cluster.take_updates()
    cluster.tick(3 + FORGET_AFTER)
    assert cluster.report(A) is None
    assert cluster.take_updates().gone == [A]


def test_a_node_that_only_others_see_is_there_without_a_view(cluster):
    cluster.put_view(A, view({B: link(), C: link(), "tool@h": link(hidden=True)}), "push", 1)
    cluster.tick(1)
    assert (cluster.report(C)["source"], cluster.report(C)["alive"]) == ("none", True)
    assert cluster.unreached() == [C]

    cluster.put_view(A, view({B: link()}), "push", 2)
    cluster.tick(2)
    assert cluster.report(C)["alive"] is False
    assert cluster.unreached() == []


def test_a_report_from_before_the_loss_of_a_node_does_not_say_that_it_runs(cluster):
    cluster.node_down(B, "connection_closed", 10)  # `a` stands still since 0, and says that it is connected with `b`
    for at in (10, 13, 60):
        cluster.tick(at)
        assert cluster.report(B)["alive"] is False
        assert cluster.unreached() == []


def test_a_lost_node_that_others_still_see_runs(cluster):
    cluster.node_down(B, "net_tick_timeout", 10)
    for at, alive in ((11, False), (12.5, True)):
        cluster.put_view(A, view({B: link()}), "push", at)
        cluster.tick(at)
        assert cluster.report(B)["alive"] is alive
    assert cluster.unreached() == [B]


def test_a_connected_node_without_news_is_silent_once(cluster):
    cluster.put_view(B, view({A: link()}), "push", 6)
    for _ in range(3):
        cluster.tick(7)
    cluster.put_view(A, view({B: link()}), "push", 8)

    assert events(cluster) == [("silent", f"{A} has told nothing for 7 s."), ("heard", f"{A} answers again.")]


def test_the_nodes_of_a_large_mesh_tell_views_less_often():
    assert [view_interval(links) for links in (0, 9, 60, 300)] == [2, 2, 2, 10]
    large = ClusterView(OBSERVER, is_member=False)
    large.node_up(A, 0)
    large.put_view(A, view({f"n{number}@h": link() for number in range(300)}), "push", 0)
    large.tick(29)
    assert events(large) == []
    large.tick(31)
    assert [kind for kind, _ in events(large)] == ["silent"]


def test_a_map_that_loses_its_own_connection_does_not_say_that_the_node_is_down(cluster):
    cluster.node_down(B, "connection_closed", 10)
    cluster.put_view(A, view({B: link()}), "push", 13)
    cluster.tick(14)
    cluster.node_up(B, 15)

    assert cluster.report(B)["alive"] is True
    assert [text for _, text in events(cluster)] == [f"The map has lost its connection with {B}: connection_closed."]
    assert cluster.history.events()[-1]["text"] == f"The map is connected with {B}."


def test_a_held_event_loop_is_an_event_and_its_next_view_the_end(cluster):
    cluster.put_busy(A, 2.0, "app.py:7 in work", gil=False, now=2)
    cluster.put_busy(A, 10.0, "", gil=True, now=10)
    assert cluster.report(A)["busy"] == {"for": 10.0, "since": 0, "line": "app.py:7 in work", "gil": True}
    cluster.put_view(A, view({B: link()}), "push", 11)

    assert cluster.report(A)["busy"] is None
    assert events(cluster) == [
        ("busy", f"The event loop of {A} is held for 2 s at app.py:7 in work."),
        ("free", f"The event loop of {A} runs again, after 11.0 s."),
    ]


def test_the_observer_of_a_member_is_shown_with_its_links():
    member = ClusterView(OBSERVER, is_member=True)
    member.put_view(OBSERVER, view({A: link()}), "push", 0)
    member.tick(0)

    assert member.report(OBSERVER)["links"][A]["state"] == "up"
    assert member.report(A)["alive"]
    member.tick(1)
    assert member.report(OBSERVER)["alive"]


def test_the_number_of_nodes_is_bounded(cluster):
    for number in range(3):
        links = {f"n{number}.{index}@h": link() for index in range(300)}
        cluster.put_view(A, view(links), "push", number)
        cluster.tick(number)

    assert len(cluster.reports()) == MAX_NODES


def test_a_report_that_was_taken_does_not_change(cluster):
    before = cluster.report(A)
    text = json.dumps(before)
    cluster.put_view(A, view({B: link("down")}, groups=[group("g", (A, "<0.1.0>"))]), "push", 1)
    cluster.node_down(A, "lost", 2)

    assert json.dumps(before) == text


# History


def test_the_history_is_bounded_by_number_and_by_size():
    history = History(max_events=3, max_bytes=1000)
    for number in range(5):
        history.add(number, A, "joined", "x", str(number))
    assert [event["text"] for event in history.events()] == ["2", "3", "4"]

    history.add(5, A, "joined", "x", "x" * 990)
    assert [event["id"] for event in history.events()] == [6]


# What another node has sent


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
FIELDS = ["kind", "otp", "links", "groups", "members", "names", "shards", "holders", "left", "count", "pid", "node"]
VIEWS = st.dictionaries(
    st.sampled_from(FIELDS), JSON | st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6), max_size=8
)


@given(VIEWS, st.dictionaries(st.text(max_size=5), st.dictionaries(st.sampled_from(["state", "silent"]), JSON)))
def test_any_view_is_made_bounded_and_printable(raw, links):
    found = checked_view({**raw, "links": links})
    cluster = ClusterView(OBSERVER, is_member=False)
    cluster.node_up(A, 0)
    cluster.put_view(A, found, "push", 0)
    cluster.put_view(A, checked_view({"links": {}, "groups": [], "names": {}, "shards": {}}), "push", 1)

    text = json.dumps([found, cluster.snapshot(1)], ensure_ascii=False, allow_nan=False)
    assert text.isprintable()
    assert len(text) < 100_000


@pytest.mark.parametrize("raw", [None, [], "view", {}, {"links": []}])
def test_what_is_no_view_at_all_is_refused(raw):
    with pytest.raises(ValueError, match="links"):
        checked_view(raw)


def test_the_lists_of_a_view_are_cut():
    members = [{"pid": "<0.1.0>", "node": A}] * 300
    found = checked_view(
        {"links": {}, "groups": [{"group": str(number), "members": members} for number in range(1000)]}
    )

    assert len(found["groups"]) == MAX_GROUPS
    assert sum(len(each["members"]) for each in found["groups"]) <= MAX_MEMBERS_IN_ALL


# Texts


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (Atom("greeters"), "greeters"),
        (b"greeters", '<<"greeters">>'),
        ("gr\u00fc\u00dfe", '<<"gr\u00fc\u00dfe">>'),
        ((b"room", 7), '{<<"room">>,7}'),
        (b"\xff\x00", "b'\\xff\\x00'"),
        (b"\x1b[31m", '<<"\\x1b[31m">>'),
    ],
)
def test_a_group_is_shown_in_erlangs_notation(term, text):
    assert term_text(term) == text
    assert term_name(term) == text


LONG = "x" * 210


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LONG + "1", LONG + "2"),
        (Atom(LONG + "1"), Atom(LONG + "2")),
        (b"\xff" * 210 + b"1", b"\xff" * 210 + b"2"),
        (("room", LONG, 1), ("room", LONG, 2)),
        ([*range(100), 1], [*range(100), 2]),
        ({Atom("topic"): LONG + "1"}, {Atom("topic"): LONG + "2"}),
        ("\x00" * 60 + "1", "\x00" * 60 + "2"),
        (Ref(Atom(A), 7, (1, 2, 3)), Ref(Atom(A), 7, (2, 2, 3))),
    ],
)
def test_names_that_start_equally_have_different_texts(one, other):
    assert term_name(one) != term_name(other)
    assert max(len(term_name(each)) for each in (one, other)) <= 200
    assert name_text(term_name(one)) == term_name(one)


@given(terms | st.tuples(terms, st.text(max_size=300), st.binary(max_size=300)))
def test_each_term_has_a_short_printable_name(term):
    name = term_name(term)

    assert len(name) <= 200
    assert name.isprintable()
    assert name_text(name) == name


def test_a_long_name_is_shown_alike_on_each_node():
    text = "\u00fc" * 500

    assert term_name(text) == term_name(text.encode())
    assert term_name(("room", text)) == term_name((b"room", text.encode()))


@pytest.mark.parametrize("start", ["n" * 250, "\x1b" * 100, "\udcff" * 250])
def test_nodes_whose_names_start_equally_differ(start):
    texts = {name_text(f"{start}{number}@h") for number in range(10)}

    assert len(texts) == 10
    assert all(len(text) <= 255 and text.isprintable() and name_text(text) == text for text in texts)


def test_nodes_and_groups_with_long_names_stay_apart_in_a_report(cluster):
    peers = ["n" * 230 + f"{number}@h" for number in (1, 2)]
    groups = [group(f"{LONG}{number}", (A, "<0.1.0>")) for number in (1, 2)]
    cluster.put_view(A, view({peer: link() for peer in peers}, groups=groups), "push", 1)
    cluster.tick(1)

    assert cluster.report(A)["links"].keys() >= {*peers}
    assert cluster.reports().keys() >= {*peers}
    assert [each["group"] for each in cluster.report(A)["groups"]] == [f"{LONG}1", f"{LONG}2"]


def test_the_name_of_a_huge_term_is_made_of_its_beginning():
    huge = [b"x" * 1000] * 1000

    assert term_name([*huge, 1]) == term_name([*huge, 2])
    assert term_name(huge) != term_name([*huge, 1])


def test_a_deep_term_has_a_short_text():
    deep = ()
    for _ in range(100_000):
        deep = (deep, b"x" * 100)

    assert len(term_text(deep)) <= 201


def test_a_pid_is_read_back():
    pid = Pid(Atom(A), 114, 3, 7)

    assert parse_pid(pid_text(pid), A, 7) == pid


@pytest.mark.parametrize("text", ["", "<1.2.3>", "<0.1.2", "<0.-1.0>", "<0.99999999999.0>", "<0.4294967296.0>"])
def test_another_text_is_no_pid(text):
    with pytest.raises(ValueError, match="is not a pid"):
        parse_pid(text, A, 1)


def test_shards_are_read_from_the_names_of_groups():
    table, pid = ShardTable(), Pid(Atom(A), 1, 0, 1)
    assert table.add((b"erlmesh_shards", b"orders", 3), [pid])
    assert table.add((b"erlmesh_shards", b"orders", 0), [pid])
    assert table.add((b"erlmesh_shards", b"orders", 0, b"copy"), [pid]), (
        "a group of its own for each shard is not listed"
    )
    assert not table.add((b"erlmesh_shards", b"orders"), [pid]), "the candidates are a group"
    assert not table.add((b"other", b"orders", 1), [pid])
    assert not table.add(b"erlmesh_shards", [pid])

    assert table.views() == {"orders": {"count": 4, "holders": {A: [0, 3]}, "taking": []}}
