"""The page of the map in Chromium, with reports that a test writes."""

from __future__ import annotations

import json

import pytest
from map_server import SERVER_STOPPED, MapServer
from scenes import beam, event, group, link, mesh, report, snapshot
from selectors_of_page import connection, count, node

S, P, A = "socrates@127.0.0.1", "plato@127.0.0.1", "aristotle@127.0.0.1"


# The mesh


def test_the_mesh_shows_nodes_of_both_kinds_and_their_connections(show):
    diotima = "diotima@127.0.0.1"
    page = show([*mesh([S, P, A]), beam(diotima, {S: link()})])

    page.wait_for_selector(node(diotima, kind="beam", state="up"))
    assert "BEAM · OTP 25" in page.locator(node(diotima)).text_content()
    assert "Python · native" in page.locator(node(S)).text_content()
    count(page, ".link[data-state=up]", 3)
    assert page.title() == "Cluster map of map@h"


def test_a_lost_node_becomes_grey_and_its_connections_red(show, server):
    page = show(mesh([S, P, A]))

    closed = link("down", reason="connection closed")
    for one, other in ((S, A), (A, S)):
        server.send("report", report=report(one, {other: link(), P: closed}))
    server.send("report", report=report(P, alive=False))
    server.send("event", event=event("node_down", f"{P} is down.", subject=P, reason="connection closed"))

    page.wait_for_selector(node(P, state="gone"))
    count(page, connection(S, P, state="down"), 1)
    count(page, connection(A, P, state="down"), 1)
    count(page, connection(S, A, state="up"), 1)
    row = page.locator('[data-event="node_down"]')
    assert "connection closed" in row.inner_text()
    assert page.locator("#summary").inner_text().split("\n") == ["2 nodes", "1 gone"]
    server.send("gone", node=P)
    count(page, "[data-node]", 2)


def test_a_one_sided_fault_is_drawn_from_the_side_that_has_the_connection(show):
    page = show([report(S, {P: link()}), report(P, {S: link("down")})])

    count(page, f"{connection(S, P, state='one-sided')}[data-seen-by={json.dumps(S)}]", 1)
    views = {half.get_attribute("data-side"): half.get_attribute("data-view") for half in page.locator(".half").all()}
    assert views == {S: "up", P: "down"}


def test_silence_attempts_and_bytes_are_written_at_the_connection(show):
    told = [
        report(S, {P: link(silent=41), A: link(out=45_000)}),
        report(P, {S: link(), A: link("reconnecting", attempt=3, next=9)}),
        report(A, {P: link("reconnecting", attempt=2, next=50), S: link()}),
    ]
    page = show(told)

    def text(one: str, other: str) -> str:
        return page.locator(f"{connection(one, other)} .link-label").text_content()

    assert text(S, P).startswith("silent for 4")
    assert text(P, A).startswith("reconnects in ")
    assert text(S, A) == "45 kB/s"
    widths = [float(half.get_attribute("stroke-width")) for half in page.locator(f"{connection(S, A)} .half").all()]
    assert widths[1] > widths[0]  # a sorts before s, so the second half is that of socrates, which sends


def test_a_peer_that_reads_slowly_is_orange_and_in_the_headline(show):
    page = show([report(S, {P: link(slow=True, queued=26_000_000)}), report(P, {S: link()})])

    assert (
        page.locator(f"{connection(S, P, state='slow')} .link-label").text_content() == "plato reads slowly: 26 MB wait"
    )
    assert "1 connection slow" in page.locator("#summary").inner_text()
    assert "all connected" not in page.locator("#summary").inner_text()
    halves = page.locator(".half").all()
    colours = {
        half.get_attribute("data-side"): half.evaluate("half => getComputedStyle(half).stroke") for half in halves
    }
    assert colours[S] != colours[P]


def test_a_node_says_that_it_is_busy_old_or_hidden(show):
    busy = {"for": 3, "line": "model.py:12 in predict", "gil": False}
    page = show([report(S, busy=busy), report(P, age=12), report(A, hidden=True)])

    assert "model.py:12" in page.locator(node(S, state="busy")).text_content()
    assert "last report 12 s ago" in page.locator(node(P, state="old")).text_content()
    assert "hidden" in page.locator(node(A)).text_content()


def test_a_long_line_of_a_busy_node_is_not_cut(show):
    where = "orders.py:112 in handle_call"
    page = show([report(name, busy={"for": 31, "line": where, "gil": False}) for name in (S, P, A, "d@h")])

    for name in (S, P, A):
        assert page.locator(f"{node(name)} .label").text_content().endswith(where)


def test_the_age_of_a_report_grows_without_news(show, server):
    page = show([report(S, age=4.5)])

    page.wait_for_selector(node(S, state="up"))
    page.wait_for_selector(node(S, state="old"))


def test_sixty_nodes_are_a_matrix_and_updates_change_only_what_differs(show, server):
    names = [f"worker-{i:02}@10.0.0.{i}" for i in range(60)]
    page = show(mesh(names))
    count(page, "td[data-state=up]", 60 * 59)
    assert page.locator("#circle").is_hidden()
    page.evaluate("""() => {
        window.changes = 0;
        new MutationObserver((found) => { window.changes += found.length; })
            .observe(document.getElementById("matrix"), { subtree: true, childList: true, attributes: true });
    }""")

    for entry in mesh(names):
        server.send("report", report=entry)
    server.send("report", report=report(names[3], {**{name: link() for name in names}, names[7]: link("down")}))

    page.wait_for_selector(f'td[data-from="{names[3]}"][data-to="{names[7]}"][data-state=down]')
    assert page.evaluate("window.changes") < 20
    assert "1 connection one-sided" in page.locator("#summary").inner_text()


def test_thirty_nine_nodes_are_still_a_circle(show):
    page = show(mesh([f"worker-{i:02}@h" for i in range(39)]))

    count(page, "#circle [data-node]", 39)
    assert page.locator("#matrix").is_hidden()
    count(page, "#matrix [data-node]", 0)


# The lists


def test_groups_names_and_shards_are_listed(show):
    workers = group("workers", ("<0.85.0>", S), ("<0.90.0>", P))
    workers["members"][1]["count"] = 2
    fields = {
        "groups": [workers, group("cache", ("<0.7.0>", P), scope="mine")],
        "names": {"leader": {"pid": "<0.85.0>", "node": S}},
        "shards": {"orders": {"count": 3, "holders": {S: [0], P: [1]}, "taking": []}},
    }
    page = show([report(S, **fields), report(P, **fields)])

    found = page.locator('[data-group="pg|workers"]')
    assert "3 members, 1 duplicate" in found.inner_text()
    assert "<0.90.0> ×2" in found.locator(f'[data-owner="{P}"]').inner_text()
    assert "<0.85.0> on socrates" in page.locator('[data-name="leader"]').inner_text()
    assert [cell.get_attribute("data-owner") for cell in page.locator("[data-shard]").all()] == [S, P, ""]
    page.get_by_label("Filter groups and names").fill("cache")
    count(page, "[data-group]", 1)


def test_groups_as_one_node_sees_them(show):
    page = show([report(S, groups=[group("mine", ("<0.1.0>", S))]), report(P, groups=[group("yours", ("<0.2.0>", P))])])
    count(page, "[data-group]", 2)

    page.get_by_label("seen by").select_option(P)

    count(page, "[data-group]", 1)
    page.wait_for_selector('[data-group="pg|yours"]')


def test_the_details_of_a_connection_show_both_sides(show):
    page = show([report(S, {P: link(queued=70_000)}), report(P, {S: link("down", reason="net tick timeout")})])

    page.locator(f"{node(S)} .symbol").click()
    page.get_by_role("button", name=f"{P} and {S}").click()

    sides = page.locator("#details")
    assert "70 kB" in sides.locator(f'[data-side="{S}"]').inner_text()
    assert "net tick timeout" in sides.locator(f'[data-side="{P}"]').inner_text()


def test_events_are_filtered_by_node(show):
    happened = [event("node_up", f"{S} is up.", subject=S), event("link_down", "They parted.", subject=P, peer=A)]
    page = show(mesh([S, P, A]), happened)
    count(page, "[data-event]", 2)

    page.locator("#event-node").select_option(A)

    count(page, "[data-event]", 1)
    page.wait_for_selector('[data-event="link_down"][data-tone="bad"]')


# Time


def test_the_slider_shows_the_past_and_live_returns(show, server):
    page = show(mesh([S, P]))
    page.wait_for_function("() => Number(document.getElementById('time').max) > 0.5")
    server.send("report", report=report(P, alive=False))
    page.wait_for_selector(node(P, state="gone"))

    page.locator("#time").focus()
    page.keyboard.press("Home")

    page.wait_for_selector(node(P, state="up"))
    page.wait_for_selector('body[data-mode="past"]')
    page.get_by_role("button", name="Live", exact=True).click()
    page.wait_for_selector(node(P, state="gone"))
    page.wait_for_selector('body[data-mode="live"]')


def test_a_saved_file_can_be_opened_and_played(show, server, tmp_path):
    page = show(mesh([S, P]))
    page.wait_for_function("() => Number(document.getElementById('time').max) > 0.5")
    server.send("report", report=report(P, alive=False))
    page.wait_for_selector(node(P, state="gone"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Save").click()
    saved = tmp_path / "saved.jsonl"
    download.value.save_as(saved)
    assert json.loads(saved.read_text().splitlines()[0])["type"] == "snapshot"
    server.send("gone", node=P)
    server.send("report", report=report(S))
    count(page, "[data-node]", 1)

    page.locator("#file").set_input_files(saved)

    page.wait_for_selector('body[data-mode="recording"]')
    page.wait_for_selector(node(P, state="up"))
    page.get_by_role("button", name="Play").click()
    page.wait_for_selector(node(P, state="gone"))
    page.get_by_role("button", name="Live", exact=True).click()
    count(page, "[data-node]", 1)


def test_a_recording_of_the_server_is_shown(show, server):
    first = snapshot(mesh([S, P]), now=1000, recorded=True)
    lines = [
        {"at": 1000, "type": "snapshot", **first},
        {"at": 1060, "type": "report", "report": {**report(P, alive=False), "time": 1060}},
    ]
    server.recording = "\n".join(map(json.dumps, lines))
    page = show([], recorded=True)

    page.wait_for_selector('body[data-mode="recording"]')
    page.wait_for_selector(node(P, state="up"))
    page.locator("#time").focus()
    page.keyboard.press("End")
    page.wait_for_selector(node(P, state="gone"))


def test_a_file_that_is_no_recording_is_refused_in_words(show, tmp_path):
    page = show(mesh([S]))
    (tmp_path / "photo.jsonl").write_bytes(b"\x89PNG")

    page.locator("#file").set_input_files(tmp_path / "photo.jsonl")

    page.wait_for_selector("#notice:not([hidden])")
    assert page.locator("#notice").inner_text() == "photo.jsonl cannot be shown. Line 1 is not a JSON object."
    page.wait_for_selector(node(S, state="up"))


# The server


@pytest.mark.parametrize("status", [401, 503])
def test_a_page_that_is_refused_says_why_until_it_is_not(show, server, page, status):
    page.allowed.extend([*SERVER_STOPPED, str(status)])
    show(mesh([S, P]))

    server.refusal = status, "64 viewers look at this map already.\n"
    server.end_streams()

    page.wait_for_selector("#notice:has-text('64 viewers look at this map already.')")
    page.wait_for_selector('[data-connection="reconnecting"]')
    server.refusal = None
    page.wait_for_selector('[data-connection="live"]')
    page.wait_for_selector("#notice", state="hidden")


def test_the_page_reconnects_when_the_server_is_back(show, server, page):
    page.allowed.extend(SERVER_STOPPED)
    show(mesh([S, P]))
    page.wait_for_selector(node(P, state="up"))

    server.close()

    page.wait_for_selector('[data-connection="reconnecting"]')
    assert page.locator("#connection-text").inner_text() == "reconnecting"
    again = MapServer(server.port)
    try:
        again.snapshot = snapshot(mesh([S, A]))
        page.wait_for_selector(node(A, state="up"))
        page.wait_for_selector('[data-connection="live"]')
        count(page, "[data-node]", 2)
    finally:
        page.close()
        again.close()


def test_buttons_are_there_only_if_the_server_allows_them(show, server):
    told = [report(S, {P: link()}, groups=[group("g", ("<0.9.0>", S))]), report(P, {S: link()})]
    page = show(told)
    page.locator(f"{node(P)} .symbol").click()
    page.wait_for_selector("#details [data-of]")
    assert page.locator("[data-control], [data-end]").count() == 0

    show(told, control=True, csrf="secret")
    server.control_answer = (200, json.dumps({"ok": True, "text": f"{P} answers."}))
    page.locator(f"{node(P)} .symbol").click()
    page.get_by_role("button", name="Ping").click()
    page.wait_for_selector(f"#notice:has-text('{P} answers.')")
    page.on("dialog", lambda dialog: dialog.accept())
    server.control_answer = (200, json.dumps({"ok": False, "text": "There is no such process."}))
    page.get_by_role("button", name="End process <0.9.0>").click()
    page.wait_for_selector("#notice[data-tone=bad]:has-text('There is no such process.')")

    assert server.controls == [
        ("/control/ping", {"node": P}, "secret"),
        ("/control/end", {"pid": "<0.9.0>", "node": S}, "secret"),
    ]


def test_a_dangerous_button_asks_first(show, server):
    page = show([report(S, {P: link()}), report(P, {S: link()})], control=True, csrf="secret")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.locator(f"{node(S)} .symbol").click()
    page.get_by_role("button", name=f"{P} and {S}").click()

    page.get_by_role("button", name="Disconnect").click()

    assert asked == [f"Disconnect {P} and {S}?"]
    assert server.controls == []


def test_a_viewer_that_falls_behind_gets_a_snapshot_and_goes_on(show, server):
    page = show(mesh([S, P]))
    happened = [event("joined", f"event {i}") for i in range(500)]

    server.send("snapshot", **snapshot(mesh([S, A]), happened))

    page.wait_for_selector(node(A))
    count(page, "[data-node]", 2)
    count(page, "[data-event]", 200)
