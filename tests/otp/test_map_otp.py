"""The map of a cluster of Python nodes and BEAMs, as a browser gets it."""

from __future__ import annotations

import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from cluster import free_port
from erlmesh import native
from erlmesh.terms import Atom
from map_viewer import MapViewer
from os_process import OsProcess
from polling import wait_until
from pynode import python_environment

COMMAND = (sys.executable, "-W", "error", "-m", "erlmesh")
TOKEN = "a token that others do not know"
BLOCK = """
import time
def hold():
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        time.sleep(0.05)
hold()
"""


def start(cluster, *arguments):
    """A command of erlmesh in a process of its own."""
    environment = {**python_environment(cluster.epmd_port, cluster.home), "ERLMESH_COOKIE": "monster"}
    process = OsProcess(arguments[0], [*COMMAND, *arguments], environment)
    cluster.processes.append(process)
    return process


def printed_url(process):
    """The address that the command has printed."""

    def found():
        assert process.is_running(), process.recent_log()
        return next((match[0] for line in list(process.log) if (match := re.search(r"http://\S+", line))), None)

    return wait_until(found, what="a map")


@contextmanager
def viewer_of(cluster, *arguments):
    """``erlmesh map`` on a free port, and a viewer of it."""
    port = free_port()
    process = start(cluster, "map", "--listen", str(port), *arguments)
    printed_url(process)
    with closing(MapViewer(port)) as viewer:
        yield viewer


def knows(viewer, *nodes):
    return all(viewer.reports.get(node.name, {}).get("source") in ("push", "poll") for node in nodes)


def test_the_map_shows_nodes_of_both_kinds(cluster, otp):
    beam, python = cluster.beam("plato", otp=otp), cluster.pynode("socrates")
    beam.eval("pg:start_link()")
    assert python.ping(beam.name)
    beam.join(Atom("greeters")), python.join(Atom("greeters"))
    beam.eval("yes = global:register_name(leader, self())")

    with viewer_of(cluster, python.name) as viewer:
        wait_until(lambda: knows(viewer, beam, python), what="both nodes")
        for name in (beam.name, python.name):
            wait_until(lambda name=name: len(viewer.groups(name).get("greeters", ())) == 2, what="both members")
            wait_until(lambda name=name: "leader" in viewer.reports[name]["names"], what="the global name")
        assert viewer.link(beam.name, python.name) == viewer.link(python.name, beam.name) == "up"
        one, other = viewer.reports[beam.name], viewer.reports[python.name]
        assert (one["kind"], one["source"]) == ("beam", "poll")
        assert f'"{one["otp"]}"' == beam.text("erlang:system_info(otp_release)")
        assert (other["kind"], other["source"]) == ("python", "push")
        assert {node for node, _ in viewer.groups(beam.name)["greeters"]} == {beam.name, python.name}
        assert one["tick_time"] == other["tick_time"] == 60


def test_the_map_is_no_member_of_the_cluster(cluster):
    beam, python = cluster.beam("plato"), cluster.pynode("socrates")
    beam.eval("pg:start_link()"), beam.eval("ok = net_kernel:monitor_nodes(true)")
    assert python.ping(beam.name)

    with viewer_of(cluster, beam.name) as viewer:
        wait_until(lambda: knows(viewer, beam, python), what="both nodes")
        observer = viewer.snapshot["observer"]
        assert observer not in viewer.reports
        assert beam.nodes() == {python.name}
        assert python.nodes() == {beam.name}
        assert beam.eval("pg:which_groups()") == python.eval("node.pg.which_groups()") == []
        assert all(observer not in report["links"] for report in viewer.reports.values())
    assert beam.eval("receive {_, Node} when Node =/= 'socrates@127.0.0.1' -> Node after 100 -> none end") == Atom(
        "none"
    )


def test_a_change_is_told_at_once_with_its_reason(cluster):
    beam, first, second = cluster.beam("plato"), cluster.pynode("socrates"), cluster.pynode("aristotle")
    beam.eval("pg:start_link()")
    assert first.ping(beam.name) and second.ping(first.name)  # noqa: PT018
    with viewer_of(cluster, first.name) as viewer:
        wait_until(lambda: knows(viewer, beam, first, second), what="all nodes")
        first.join(Atom("greeters"))
        wait_until(lambda: any(" of socrates" in text for text in viewer.texts("joined")), what="a member in Python")
        beam.join(Atom("greeters"))
        wait_until(lambda: any(" of plato" in text for text in viewer.texts("joined")), what="a member in Erlang")
        # The name keeps the member: the pid that evaluates is a member in each language.
        ended = first.eval("pid = node.spawn(lambda me: me.sleep(60)); node.pg.join('workers', pid)")
        assert ended is None
        wait_until(lambda: any("workers" in text for text in viewer.texts("joined")), what="a worker")
        first.eval("node.exit(pid, erlmesh.Atom('boom'))")
        wait_until(lambda: any("ended with boom" in text for text in viewer.texts("left")), what="its end")

        second.kill()
        beam.kill()

        wait_until(lambda: len(viewer.texts("node_down")) == 2, what="the loss of two nodes")
        wait_until(lambda: viewer.link(first.name, second.name) == "reconnecting", what="a link that is lost")
        wait_until(lambda: any("plato" in text for text in viewer.texts("left")), what="the member of the lost BEAM")
        assert viewer.reports[beam.name]["alive"] is False
        assert viewer.groups(first.name) == {"greeters": [(first.name, viewer.groups(first.name)["greeters"][0][1])]}
        restarted = cluster.beam("plato")
        wait_until(lambda: knows(viewer, restarted), what="the BEAM that is back")


def test_a_beam_that_stands_still_holds_up_no_other(cluster):
    beam, other, python = cluster.beam("plato"), cluster.beam("aristotle"), cluster.pynode("socrates")
    assert python.ping(beam.name) and other.ping(python.name)  # noqa: PT018
    with viewer_of(cluster, python.name) as viewer:
        wait_until(lambda: knows(viewer, beam, other, python), what="all nodes")
        beam.stop()
        stopped = time.time()
        try:
            wait_until(lambda: any(f"{beam.name} has told nothing" in text for text in viewer.texts("silent")))
            fresh = time.time()
            for node in (other, python):
                wait_until(lambda node=node: viewer.reports[node.name]["time"] > fresh, what="a report of another node")
            assert viewer.reports[beam.name]["time"] < stopped + 0.5
            assert viewer.reports[beam.name]["alive"]
        finally:
            beam.cont()
        wait_until(lambda: viewer.reports[beam.name]["time"] > fresh, what="the node again")
        wait_until(lambda: viewer.texts("heard"), what="the event of it")


def test_the_line_that_holds_the_event_loop_is_told(cluster):
    held, other = cluster.pynode("socrates"), cluster.pynode("aristotle")
    assert held.ping(other.name)
    with viewer_of(cluster, other.name) as viewer:
        wait_until(lambda: knows(viewer, held, other), what="both nodes")
        held.eval(BLOCK, SECONDS=4)

        (text,) = wait_until(lambda: viewer.texts("busy"), what="a held loop")
        assert text.endswith("at <test>:6 in hold.")
        (text,) = wait_until(lambda: viewer.texts("free"), what="a free loop")
        assert re.search(r"runs again, after [\d.]+ s\.$", text)
        assert viewer.reports[held.name]["busy"] is None


if native.module is not None:  # in the pure build no thread can tell anything then

    def test_a_function_that_holds_the_gil_is_told_without_its_line(cluster):
        held, other = cluster.pynode("socrates"), cluster.pynode("aristotle")
        assert held.ping(other.name)
        with viewer_of(cluster, other.name) as viewer:
            wait_until(lambda: knows(viewer, held, other), what="both nodes")
            with ThreadPoolExecutor() as threads:
                holding = threads.submit(held.eval, "import ctypes; ctypes.PyDLL(None).sleep(6)", timeout=30)
                busy = wait_until(lambda: viewer.reports[held.name]["busy"], what="a held loop")
                assert busy["gil"] is True
                assert not holding.done()
                holding.result()
            wait_until(lambda: viewer.reports[held.name]["busy"] is None, what="a free loop")


def test_hostile_names_are_spelt_out(cluster):
    beam, python = cluster.beam("plato"), cluster.pynode("socrates")
    beam.eval("pg:start_link()")
    assert python.ping(beam.name)
    beam.join("<script>\u202e\x1b[31m".encode())
    beam.join(Atom("\u202egroup"))
    with viewer_of(cluster, python.name) as viewer:
        for node in (beam, python):
            wait_until(lambda node=node: len(viewer.groups(node.name)) == 2, what="the groups")
            assert set(viewer.groups(node.name)) == {'<<"<script>\\u202e\\x1b[31m">>', "\\u202egroup"}
        assert json.dumps(viewer.reports, ensure_ascii=False).isprintable()


def test_a_member_serves_the_map_to_viewers_with_the_token(cluster, tmp_path):
    beam = cluster.beam("plato")
    token_file = Path(tmp_path, "token")
    token_file.write_text(TOKEN)
    token_file.chmod(0o600)
    port = free_port()
    arguments = ["--map", f"0.0.0.0:{port}", "--map-token-file", str(token_file), "--map-control"]
    node = start(cluster, "start", "--name", "socrates@127.0.0.1", "--join", beam.name, *arguments)
    assert printed_url(node) == f"http://127.0.0.1:{port}/?token={TOKEN}".replace(" ", "%20")
    with pytest.raises(AssertionError, match="A token is needed"):
        MapViewer(port)

    with closing(MapViewer(port, TOKEN)) as viewer:
        wait_until(lambda: viewer.link("socrates@127.0.0.1", beam.name) == "up", what="the own view")
        wait_until(lambda: viewer.link(beam.name, "socrates@127.0.0.1") == "up", what="the view of the BEAM")
        pid = beam.text("pid_to_list(spawn(fun() -> register(victim, self()), receive never -> ok end end))").strip('"')
        wait_until(lambda: beam.eval("is_pid(whereis(victim))") is True)
        body = {"node": beam.name, "pid": pid}
        headers = {"Authorization": f"Bearer {TOKEN}", "X-CSRF-Token": viewer.snapshot["csrf"]}
        request = Request(
            f"http://127.0.0.1:{port}/control/end",
            json.dumps(body).encode(),
            {**headers, "Content-Type": "application/json"},
        )
        with urlopen(request) as answer:
            assert json.load(answer)["ok"] is True
        wait_until(lambda: beam.eval("whereis(victim)") == Atom("undefined"), what="the end of the process")
        wait_until(lambda: viewer.texts("control"), what="the event of the button")
        assert node.logged("has used the button end")

        node.terminate()
        assert node.wait() == 0


def test_a_recording_is_opened_without_a_cluster(cluster, tmp_path):
    python = cluster.pynode("socrates")
    path = Path(tmp_path, "cluster.jsonl")
    with viewer_of(cluster, python.name, "--record", str(path)) as viewer:
        wait_until(lambda: knows(viewer, python), what="the node")
        python.join(Atom("greeters"))
        wait_until(lambda: viewer.texts("joined"), what="a member")
        cluster.processes[-1].terminate()
        assert cluster.processes[-1].wait() == 0
    python.kill()

    port = free_port()
    opened = start(cluster, "map", str(path), "--listen", str(port))
    printed_url(opened)
    with closing(MapViewer(port)) as viewer:
        wait_until(lambda: viewer.snapshot, what="the first snapshot")
        assert viewer.snapshot["recorded"] is True
        with urlopen(f"http://127.0.0.1:{port}/recording") as answer:
            lines = [json.loads(line) for line in answer]
        assert lines[0]["type"] == "snapshot"
        assert any(line["type"] == "event" and line["event"]["kind"] == "joined" for line in lines)
        opened.terminate()
        assert opened.wait() == 0
