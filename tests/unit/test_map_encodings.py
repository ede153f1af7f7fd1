"""What is sent to viewers of the map is encoded once for all of them."""

import json
from types import SimpleNamespace

import pytest

from erlmesh.core.cluster_view.checked import checked_view
from erlmesh.core.cluster_view.history import MAX_EVENTS
from erlmesh.web import encodings as encodings_module
from erlmesh.web.cluster_map import ClusterMap, MapSettings
from erlmesh.web.encodings import Encodings

A, B, C = "a@h", "b@h", "c@h"
SLOW = {"groups": [], "more_groups": 0, "names": {}, "shards": {}}
EVENT = {"id": 1, "kind": "joined", "text": "…"}


@pytest.fixture
def encoded(monkeypatch):
    """The values that are encoded, in order."""
    values = []

    def encode(value):
        values.append(value)
        return encode_json(value)

    encode_json = encodings_module.encode_json
    monkeypatch.setattr(encodings_module, "encode_json", encode)
    return values


@pytest.fixture
def cluster_map():
    """The map of a cluster of the nodes ``a``, ``b`` and ``c``. Nothing of it runs."""
    made = ClusterMap(SimpleNamespace(name="map@h"), None, None, MapSettings())
    for name in (A, B, C):
        made.collector.cluster.node_up(name, 0)
        change(made, name, groups=[], names={}, shards={})
    return made


def change(cluster_map, name, **values):
    """The node tells its view. The viewers are told what has changed."""
    links = {peer: {"state": "up"} for peer in (A, B, C) if peer != name}
    cluster_map.collector.cluster.put_view(name, checked_view({"links": links, **values}), "push", 1)
    pass_on(cluster_map)


def pass_on(cluster_map):
    cluster_map._changed(cluster_map.collector.cluster.take_updates())


def viewers(cluster_map, count):
    return [cluster_map.new_viewer()[0] for _ in range(count)]


def reports(encoded):
    return [value["node"] for value in encoded if "links" in value]


def messages(data):
    """The server-sent events: kinds and data."""
    lines = [message.split("\n") for message in data.decode().split("\n\n")[:-1]]
    return [(kind.removeprefix("event: "), json.loads(line.removeprefix("data: "))) for kind, line in lines]


def states(data, name):
    """Whether the node is alive in each of its reports."""
    found = [data["report"] for kind, data in messages(data) if kind == "report"]
    return [report["alive"] for report in found if report["node"] == name]


def test_each_report_and_each_event_is_encoded_once_for_all_viewers(cluster_map, encoded):
    all_viewers = viewers(cluster_map, 50)
    for viewer in all_viewers:
        viewer.take()
    assert sorted(reports(encoded)) == [A, B, C]

    encoded.clear()
    change(cluster_map, A)
    cluster_map.collector.cluster.put_control(B, "B answers.", 2)
    pass_on(cluster_map)
    (taken,) = {viewer.take() for viewer in all_viewers}

    assert reports(encoded) == [A]
    assert len(encoded) == 2, "the report and the event"
    assert [kind for kind, _ in messages(taken)] == ["report", "event"]
    assert "groups" not in messages(taken)[0][1]["report"]


def test_a_viewer_that_comes_later_has_what_is_encoded_already(cluster_map, encoded):
    viewers(cluster_map, 1)[0].take()
    encoded.clear()

    viewers(cluster_map, 1)[0].take()

    assert reports(encoded) == []


def test_what_is_sent_is_what_the_cluster_knows(cluster_map):
    (viewer,) = viewers(cluster_map, 1)
    cluster = cluster_map.collector.cluster

    ((kind, data),) = messages(viewer.take())
    assert kind == "snapshot"
    assert data == {
        **cluster.snapshot(data["now"]), "control": False, "csrf": None, "recorded": False,
    }  # fmt: skip

    change(cluster_map, A, groups=[{"scope": "pg", "group": "g", "members": []}])
    assert messages(viewer.take()) == [("report", {"report": cluster.report(A)})]
    change(cluster_map, A)
    ((_, data),) = messages(viewer.take())
    assert {**cluster.report(A), **data["report"]} == cluster.report(A)


def test_nothing_is_kept_when_nobody_looks(cluster_map):
    (first, remove_first), (_, remove_second) = cluster_map.new_viewer(), cluster_map.new_viewer()
    first.take()
    remove_first()
    assert cluster_map._encodings._reports

    remove_second()

    assert not cluster_map._encodings._reports
    assert not cluster_map._encodings._events
    assert cluster_map._encodings._size == 0


def test_a_node_that_is_forgotten_is_not_kept(cluster_map):
    viewers(cluster_map, 1)[0].take()
    for name in (A, B, C):
        cluster_map.collector.cluster.node_down(name, "killed", 2)
    for at in (3, 1000):
        cluster_map.collector.cluster.tick(at)
        pass_on(cluster_map)

    assert not cluster_map._encodings._reports


def test_the_json_of_reports_that_is_kept_is_bounded(monkeypatch, encoded):
    monkeypatch.setattr(encodings_module, "MAX_KEPT", 1000)
    encodings = Encodings()
    large = [{"node": f"{number}@h", "time": 0, "version": "x" * 100, **SLOW} for number in range(20)]
    for report in large:
        encodings.report(report, is_slow=True)
    assert 800 < encodings._size <= 1000
    assert encodings._size == sum(len(each.fast or b"") + len(each.slow or b"") for each in encodings._reports.values())

    encoded.clear()
    for report in large:
        assert messages(encodings.report(report, is_slow=True)) == [("report", {"report": report})]
    assert 0 < len(encoded) < 40

    for report in large:
        encodings.forget(report["node"])
    assert encodings._size == 0


def test_the_events_that_are_kept_are_bounded():
    encodings = Encodings()
    for number in range(MAX_EVENTS + 10):
        encodings.event({**EVENT, "id": number})

    assert len(encodings._events) == MAX_EVENTS


def test_a_killed_node_of_a_large_cluster_is_gone_for_all_viewers():
    names = [f"n{number:02}@h" for number in range(60)]
    _, *running, killed = names
    large = ClusterMap(SimpleNamespace(name="map@h"), None, None, MapSettings())
    cluster = large.collector.cluster

    def tell(name, now, **peers):
        links = {peer: {"state": peers.get(peer, "up")} for peer in names if peer != name}
        cluster.put_view(name, checked_view({"links": links}), "push", now)
        pass_on(large)

    for name in names:
        cluster.node_up(name, 0)
        tell(name, 0)
    stalled, reading = viewers(large, 3), viewers(large, 50)
    for viewer in (*stalled, *reading):
        viewer.take()

    cluster.node_down(killed, "connection_closed", 1)
    seen, kinds = [], set()
    for tenth in range(10, 100):
        now = tenth / 10
        if tenth % 5 == 0:
            cluster.tick(now)
        for name in running[tenth % 20 :: 20]:  # each of them once in two seconds; the first one stands still
            tell(name, now, **{killed: "reconnecting"})
        pass_on(large)
        if tenth % 7 == 0:  # slower than the ticks
            (taken,) = {viewer.take() for viewer in reading}
            kinds |= {kind for kind, _ in messages(taken)}
            seen += states(taken, killed)

    assert seen
    assert not any(seen)
    assert kinds == {"report", "event"}, "no snapshot is needed"
    assert [states(viewer.take(), killed) for viewer in stalled] == [[False]] * 3
