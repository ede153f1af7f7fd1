"""`erlmesh map` and its page in Chromium, with real nodes: Python and a BEAM of OTP 25."""

from __future__ import annotations

import re
import socket
import sys
from typing import Any

import pytest
from map_server import SERVER_STOPPED
from selectors_of_page import connection, count, node

from cluster import Cluster, free_port
from erlmesh.terms import Atom
from os_process import OsProcess
from polling import wait_until
from pynode import python_environment


class Map(OsProcess):
    """``erlmesh map``. ``url`` is the address that it prints."""

    def __init__(self, cluster: Cluster, *arguments: str, port: int | None = None, **environment: str) -> None:
        cookie = cluster.home / "cookie"
        cookie.touch(mode=0o600)
        cookie.write_text("monster")
        self.port = port or free_port()
        command = [sys.executable, "-W", "error", "-m", "erlmesh", "map", "--listen", str(self.port), *arguments]
        own = {**python_environment(cluster.epmd_port, cluster.home), "ERLMESH_COOKIE_FILE": str(cookie)}
        super().__init__("erlmesh map", command, own | environment)
        cluster.processes.append(self)
        wait_until(lambda: self.logged("http://") or not self.is_running(), what="a map", details=self.recent_log)
        found = re.search(r"http://\S+", "\n".join(self.log))
        assert found is not None, self.recent_log()
        self.url = found[0]


@pytest.fixture
def opened(cluster: Cluster, page: Any) -> Any:
    """``opened(*arguments of erlmesh map)`` starts a map and opens its page."""
    page.allowed.extend(SERVER_STOPPED)  # the server ends before the page is closed

    def opened(*arguments: str, **environment: str) -> Map:
        started = Map(cluster, *arguments, **environment)
        page.goto(started.url)
        page.wait_for_selector('[data-connection="live"]')
        return started

    return opened


def meet(*nodes: Any) -> list[str]:
    """Connect all, and return their names."""
    first, *others = nodes
    for other in others:
        assert other.ping(first.name)
    names = [each.name for each in nodes]
    wait_until(lambda: all(each.nodes() == {*names} - {each.name} for each in nodes), what="a full mesh")
    return names


def test_a_killed_node_is_grey_with_two_red_connections_and_comes_back(cluster, opened, page):
    socrates, plato, diotima = cluster.pynode("socrates"), cluster.pynode("plato"), cluster.beam("diotima")
    diotima.eval("pg:start_link(), ok")
    s, p, d = meet(socrates, plato, diotima)
    opened(s)
    for name, kind in ((s, "python"), (p, "python"), (d, "beam")):
        page.wait_for_selector(node(name, state="up", kind=kind))
    count(page, ".link[data-state=up]", 3)
    assert "OTP 25" in page.locator(node(d)).text_content()
    plato.join("workers")
    diotima.eval('pg:join(<<"workers">>, self())')
    count(page, '[data-group*="workers"] [data-member]', 2)

    plato.kill()

    page.wait_for_selector(node(p, state="gone"))
    count(page, connection(s, p) + ":not([data-state=up])", 1)
    count(page, connection(d, p) + ":not([data-state=up])", 1)
    count(page, connection(s, d, state="up"), 1)
    count(page, '[data-group*="workers"] [data-member]', 1)
    page.wait_for_selector(f'[data-event="node_down"][data-subject="{p}"]')

    again = cluster.pynode("plato")
    again.ping(s)

    page.wait_for_selector(node(p, state="up"))
    count(page, ".link[data-state=up]", 3)
    count(page, '[data-event="node_up"][data-subject="plato@127.0.0.1"]', 2)


def test_paused_nodes_of_both_kinds_say_how_old_their_reports_are(cluster, opened, page):
    socrates, plato, diotima = cluster.pynode("socrates"), cluster.pynode("plato"), cluster.beam("diotima")
    s, p, d = meet(socrates, plato, diotima)
    opened(s)
    for name in (s, p, d):
        page.wait_for_selector(node(name, state="up"))

    plato.stop()
    diotima.stop()

    page.wait_for_selector(node(p, state="old"))
    page.wait_for_selector(node(d, state="old"))
    page.wait_for_selector(node(s, state="up"))
    plato.cont()
    diotima.cont()
    page.wait_for_selector(node(p, state="up"))
    page.wait_for_selector(node(d, state="up"))


def test_a_silent_node_is_lost_and_the_connection_heals(cluster, opened, page):
    socrates, plato = (cluster.pynode(name, net_ticktime=4) for name in ("socrates", "plato"))
    s, p = meet(socrates, plato)
    opened(s, ERLMESH_NET_TICKTIME="4")
    page.wait_for_selector(node(p, state="up"))
    count(page, connection(s, p, state="up"), 1)

    plato.stop()

    count(page, connection(s, p, state="silent"), 1)
    assert re.fullmatch(r"silent for [2-9] of 4 s", page.locator(f"{connection(s, p)} .link-label").text_content())
    count(page, connection(s, p, state="reconnecting"), 1)
    plato.cont()
    count(page, connection(s, p, state="up"), 1)
    page.wait_for_selector(f'[data-event="reconnecting"][data-subject="{s}"]')


def test_code_that_holds_the_event_loop_is_named_by_its_line(cluster, opened, page):
    socrates, plato = cluster.pynode("socrates"), cluster.pynode("plato")
    s, p = meet(socrates, plato)
    opened(s)
    page.wait_for_selector(node(p, state="up"))

    plato.eval("__import__('asyncio').get_running_loop().call_later(0.1, __import__('time').sleep, 4) and None")

    busy = page.wait_for_selector(node(p, state="busy"))
    assert re.search(r"busy [\d.]+ s: \S+\.py:\d+", busy.text_content())
    assert ".py:" in page.wait_for_selector('[data-event="busy"]').text_content()
    page.wait_for_selector('[data-event="free"]')
    page.wait_for_selector(node(p, state="up"))


def test_two_nodes_are_cut_and_meet_again(cluster, opened, page):
    socrates, diotima = cluster.pynode("socrates"), cluster.beam("diotima")
    s, d = meet(socrates, diotima)
    opened(s)
    page.wait_for_selector(node(d, state="up", kind="beam"))
    count(page, connection(s, d, state="up"), 1)

    diotima.eval("erlang:disconnect_node(Peer)", Peer=socrates.atom)

    count(page, connection(s, d) + ":is([data-state=down], [data-state=reconnecting], [data-state=absent])", 1)
    page.wait_for_selector(node(s, state="up"))
    page.wait_for_selector(node(d, state="up"))
    page.wait_for_selector('[data-event="link_down"]')
    assert socrates.ping(d)
    count(page, connection(s, d, state="up"), 1)


def test_the_shards_of_a_killed_node_go_to_another_one(cluster, opened, page):
    socrates, plato = cluster.pynode("socrates"), cluster.pynode("plato")
    s, p = meet(socrates, plato)
    for each in (socrates, plato):
        each.eval("node.shards('feeds', shards=12, settle=0.1, release_timeout=0.1, process=me).start()")
    opened(s)
    page.wait_for_selector(f'[data-shards="feeds"] [data-owner="{s}"]')
    page.wait_for_selector(f'[data-shards="feeds"] [data-owner="{p}"]')
    count(page, '[data-shards="feeds"] [data-shard][data-state="owned"]', 12)

    plato.kill()

    count(page, f'[data-shards="feeds"] [data-state="owned"][data-owner="{s}"][data-shard]', 12)
    page.wait_for_selector('[data-event="shard_taken"]')


def test_hostile_names_of_a_real_cluster_are_only_text(cluster, opened, page):
    hostile = ["<img src=x onerror=alert(1)>", "\u202egnp.exe", "a\x1b[31mred\x07", '"]><script>alert(1)</script>']
    socrates, diotima = cluster.pynode("socrates"), cluster.beam("diotima")
    diotima.eval("pg:start_link(), ok")
    s, _d = meet(socrates, diotima)
    for name in hostile:
        socrates.join(name)
        socrates.join(Atom(name))
        socrates.eval("await node.global_.register(NAMED, node.spawn(lambda me: me.receive()))", NAMED=Atom(name))
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))

    opened(s)

    count(page, "[data-group]", 2 * len(hostile))
    count(page, "[data-name]", len(hostile))
    shown = page.locator("main").inner_text()
    assert "<img src=x onerror=alert(1)>" in shown
    assert not set(shown) & {"\u202e", "\x1b", "\x07"}
    assert page.locator("main img, main script").count() == 0
    assert dialogs == []


def test_viewers_that_do_not_read_hold_up_nobody(cluster, opened, page):
    socrates, plato = cluster.pynode("socrates"), cluster.pynode("plato")
    s, p = meet(socrates, plato)
    shown = opened(s)
    page.wait_for_selector(node(p, state="up"))
    stalled = [socket.create_connection(("127.0.0.1", shown.port)) for _ in range(5)]
    for viewer in stalled:
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        viewer.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{shown.port}\r\n\r\n".encode())
    socrates.eval("[node.pg.join(f'group {i}', me.pid) for i in range(300)] and None")
    count(page, "[data-group]", 100)

    plato.kill()

    page.wait_for_selector(node(p, state="gone"))
    for viewer in stalled:
        viewer.close()


def test_the_page_is_live_again_when_its_map_is_back(cluster, opened, page):
    socrates = cluster.pynode("socrates")
    shown = opened(socrates.name)
    page.wait_for_selector(node(socrates.name, state="up"))

    shown.kill()
    page.wait_for_selector('[data-connection="reconnecting"]')
    Map(cluster, socrates.name, port=shown.port)

    page.wait_for_selector('[data-connection="live"]')
    page.wait_for_selector(node(socrates.name, state="up"))


def test_buttons_act_on_the_cluster(cluster, opened, page):
    socrates, plato = cluster.pynode("socrates"), cluster.pynode("plato")
    s, p = meet(socrates, plato)
    victim = plato.eval("node.spawn(lambda me: me.receive())")
    plato.eval("node.pg.join('workers', VICTIM)", VICTIM=victim)
    opened(s, "--map-control")
    page.on("dialog", lambda dialog: dialog.accept())

    page.locator(f"{node(p, state='up')} .symbol").click()
    page.get_by_role("button", name="Ping").click()
    page.wait_for_selector(f"#notice:has-text('{p} answers.')")
    page.get_by_role("button", name="End process").click()

    count(page, "[data-member]", 0)
    page.wait_for_selector('[data-event="left"]:has-text("killed")')
    assert plato.members("workers") == []


def test_a_recording_of_a_real_cluster_is_shown_without_it(cluster, opened, page, tmp_path):
    socrates, plato = cluster.pynode("socrates"), cluster.pynode("plato")
    s, p = meet(socrates, plato)
    record = tmp_path / "cluster.jsonl"
    shown = opened(s, "--record", str(record))
    page.wait_for_selector(node(p, state="up"))
    plato.kill()
    page.wait_for_selector(node(p, state="gone"))
    wait_until(lambda: record.exists() and "node_down" in record.read_text(), what="the end of plato in the recording")
    shown.terminate()
    assert shown.wait() == 0
    socrates.kill()

    opened(str(record))

    page.wait_for_selector('body[data-mode="recording"]')
    page.locator("#time").focus()
    page.keyboard.press("End")
    page.wait_for_selector(node(p, state="gone"))
    page.wait_for_selector(node(s, state="up"))
