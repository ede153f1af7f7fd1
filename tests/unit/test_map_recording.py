"""What a recording contains, how large it becomes, and which files are opened."""

import json
import os
import threading

import pytest

from erlmesh.core.cluster_view.cluster import Updates
from erlmesh.errors import NodeStartError
from erlmesh.web.recorder import Recorder
from erlmesh.web.recording import Recording

REPORT = {"node": "plato@h", "links": {}, "groups": [], "more_groups": 0, "names": {}, "shards": {}}
SNAPSHOT = {"schema": 1, "reports": {"plato@h": REPORT}, "events": []}
EVENT = {"id": 1, "kind": "joined", "text": "…"}


def recorder_of(path, **options):
    recorder = Recorder(path, lambda: SNAPSHOT, {"plato@h": REPORT}.get, lambda: 7.0, **options)
    recorder.start()
    return recorder


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_recording_starts_with_a_snapshot_and_has_each_change(tmp_path):
    path = tmp_path / "map.jsonl"
    recorder = recorder_of(path)
    recorder.add(Updates({"plato@h": False}, ["old@h"], [EVENT]))
    recorder.close()

    assert lines_of(path) == [
        {"at": 7.0, "type": "snapshot", "snapshot": SNAPSHOT},
        {"at": 7.0, "type": "gone", "node": "old@h"},
        {"at": 7.0, "type": "report", "report": {"node": "plato@h", "links": {}}},
        {"at": 7.0, "type": "event", "event": EVENT},
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["map.jsonl"]


def test_a_recording_has_two_files_of_half_the_limit(tmp_path):
    path = tmp_path / "map.jsonl"
    recorder = recorder_of(path, limit=4000)
    for _ in range(200):
        recorder.add(Updates({}, [], [EVENT]))
        while not recorder._pieces.empty():  # the disk keeps up
            pass
    recorder.close()

    for file in (path, tmp_path / "map.jsonl.1"):
        assert file.stat().st_size <= 2000
        assert lines_of(file)[0]["type"] == "snapshot"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["map.jsonl", "map.jsonl.1"]


def test_an_older_recording_is_kept(tmp_path):
    path = tmp_path / "map.jsonl"
    path.write_text("older")
    recorder_of(path).close()

    assert (tmp_path / "map.jsonl.1").read_text() == "older"


def test_what_a_slow_disk_drops_is_in_the_next_snapshot(tmp_path, monkeypatch):
    path, may_write = tmp_path / "map.jsonl", threading.Event()
    recorder = Recorder(path, lambda: SNAPSHOT, {}.get, lambda: 7.0)
    run = recorder._run

    def late():
        may_write.wait()
        run()

    recorder._thread = threading.Thread(target=late)
    recorder.start()
    for _ in range(1000):
        recorder.add(Updates({}, [], [EVENT]))
    may_write.set()
    while not recorder._pieces.empty():
        pass
    recorder.add(Updates({}, [], [EVENT]))
    recorder.close()

    kinds = [line["type"] for line in lines_of(path)]
    assert len(kinds) < 1000
    assert kinds[-1] == "snapshot"


def test_a_full_disk_ends_the_recording_and_nothing_else(tmp_path, caplog):
    recorder = recorder_of(tmp_path / "map.jsonl")
    recorder._write = lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    recorder.add(Updates({}, [], [EVENT]))
    recorder._thread.join()
    recorder.add(Updates({}, [], [EVENT]))
    recorder.close()

    assert "No space left on device" in caplog.text


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(NodeStartError, match="cannot write the recording"):
        recorder_of(tmp_path / "nowhere" / "map.jsonl")


# Opening


def test_the_line_that_a_crash_has_cut_is_not_sent(tmp_path):
    path = tmp_path / "map.jsonl"
    recorder_of(path).close()
    size = path.stat().st_size
    with path.open("a") as file:
        file.write('{"at": 8, "type": "rep')

    assert Recording(path).recording_parts() == [(path, size)]


def test_the_file_before_belongs_to_the_recording_if_it_ends_where_this_one_starts(tmp_path):
    path, before = tmp_path / "map.jsonl", tmp_path / "map.jsonl.1"
    recorder_of(path).close()
    recorder_of(path).close()
    os.utime(before, (7, 7))
    assert [each for each, _ in Recording(path).recording_parts()] == [before, path]

    os.utime(before, (7000, 7000))
    assert [each for each, _ in Recording(path).recording_parts()] == [path]


def test_a_viewer_of_a_recording_gets_its_first_snapshot_without_buttons(tmp_path):
    path = tmp_path / "map.jsonl"
    recorder_of(path).close()
    viewer, _ = Recording(path).new_viewer()
    kind, data = viewer.take().decode().splitlines()[:2]

    assert kind == "event: snapshot"
    found = json.loads(data.removeprefix("data: "))
    assert (found["recorded"], found["control"], found["csrf"]) == (True, False, None)
    assert found["reports"] == SNAPSHOT["reports"]


@pytest.mark.parametrize("text", ["", "{}", "not JSON\n", "[" * 100_000, '{"type":"event"}\n', "\x00" * 100])
def test_another_file_is_no_recording(tmp_path, text):
    path = tmp_path / "other"
    path.write_text(text)

    with pytest.raises(NodeStartError, match="is no recording"):
        Recording(path)


def test_a_recording_of_another_schema_is_refused(tmp_path):
    path = tmp_path / "map.jsonl"
    path.write_text(json.dumps({"at": 1, "type": "snapshot", "snapshot": {"schema": 2, "reports": {}}}) + "\n")

    with pytest.raises(NodeStartError, match="another version"):
        Recording(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(NodeStartError, match="No such file"):
        Recording(tmp_path / "map.jsonl")
