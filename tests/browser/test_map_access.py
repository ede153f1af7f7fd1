"""The page of the map in Chromium: hostile names, the keyboard, screen readers, contrast, small screens."""

from __future__ import annotations

from pathlib import Path

import pytest
from map_server import SERVER_STOPPED
from scenes import event, group, link, mesh, report
from selectors_of_page import count, node

HERE = Path(__file__).parent
S, P, A = "socrates@127.0.0.1", "plato@127.0.0.1", "aristotle@127.0.0.1"

HOSTILE = [
    "<img src=x onerror=alert(1)>@h", '"]><script>alert(1)</script>@h', "\u202egnp.exe@h", "a\x00\x1b[31m\x07b@h",
    "__proto__", "constructor@h", "|@|", "x" * 255 + "@h",
]  # fmt: skip


CLICK = """(name) => [...document.querySelectorAll("[data-node]")].find((one) => one.dataset.node === name)
    .dispatchEvent(new Event("click", { bubbles: true }))"""


def test_hostile_names_are_text_and_nothing_else(show, page):
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    groups = [group(name, (name, HOSTILE[0]), scope=name) for name in HOSTILE]
    names = {name: {"pid": "<0.1.0>", "node": name} for name in HOSTILE}
    told = [
        report(name, {peer: link() for peer in HOSTILE if peer != name}, groups=groups, names=names) for name in HOSTILE
    ]

    show(told, [event("joined", name, subject=name, reason=name) for name in HOSTILE])

    count(page, "[data-node]", len(HOSTILE))
    count(page, "[data-group]", len(HOSTILE))
    count(page, "[data-name]", len(HOSTILE))
    count(page, "[data-event]", len(HOSTILE))
    count(page, ".link[data-state=up]", len(HOSTILE) * (len(HOSTILE) - 1) // 2)
    assert page.locator("main img, main script").count() == 0
    assert dialogs == []
    for name in HOSTILE:
        page.evaluate(CLICK, name)
        page.wait_for_function("(name) => document.getElementById('details-title').textContent === name", arg=name)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_everything_is_reached_with_the_keyboard(show):
    page = show(mesh([S, P, A]))
    page.wait_for_selector(node(S))
    stops = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        stops.add(page.evaluate("document.activeElement.id || document.activeElement.dataset.node || ''"))

    assert {"save", "open", A, "filter", "seen-by", "event-node", "events", "play", "speed", "time", "live"} <= stops
    page.locator(node(A)).focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.node") == P
    page.keyboard.press("Enter")
    page.wait_for_selector(f'#details [data-of="{P}"]')
    page.keyboard.press("Escape")
    page.wait_for_selector("#details-hint:visible")


def test_focus_stays_while_reports_arrive(show, server):
    page = show(mesh([S, P, A]))
    page.locator(node(P)).focus()

    server.send("report", report=report("aspasia@127.0.0.1"))

    page.wait_for_selector(node("aspasia@127.0.0.1"))
    assert page.evaluate("document.activeElement.dataset.node") == P


def test_the_arrow_keys_move_in_the_matrix(show):
    names = [f"n{i:02}@h" for i in range(40)]
    page = show(mesh(names))
    page.locator(f'th[data-node="{names[0]}"]').focus()

    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)

    assert page.evaluate("[document.activeElement.dataset.from, document.activeElement.dataset.to]") == [
        names[2],
        names[1],
    ]
    page.keyboard.press("Enter")
    page.wait_for_selector(f'#details [data-of="{names[1]}|{names[2]}"]')


NAMELESS = """() => [...document.querySelectorAll("button, select, input, [role=button]")]
    .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length || one.title))
    .map((one) => one.outerHTML)"""


def test_a_screen_reader_is_told_of_events_and_names_of_all_controls(show, server):
    page = show(mesh([S, P]))

    server.send("event", event=event("node_down", f"{P} is down.", subject=P))

    page.wait_for_selector(f"#announcer:has-text('{P} is down.')", state="attached")
    assert page.get_by_role("button", name=f"{P}, Python · native, up").count() == 1
    nameless = page.evaluate(NAMELESS)
    assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_both_schemes(show, page, scheme):
    page.emulate_media(color_scheme=scheme)
    told = [
        report(S, {P: link(silent=41), A: link("reconnecting", next=3)}, groups=[group("g", ("<0.9.0>", S))]),
        report(P, {S: link()}, busy={"for": 2, "line": "a.py:1", "gil": False}),
        report(A, {S: link("down")}, alive=False),
    ]
    show(told, [event("node_down", "down", reason="why"), event("node_up", "up")], control=True)
    page.locator(f"{node(S)} .symbol").click()
    page.wait_for_selector("#details [data-of]")

    assert page.evaluate((HERE / "low_contrast.js").read_text()) == []


def test_nothing_moves_if_the_user_wants_less_motion(show, page, server):
    page.allowed.extend(SERVER_STOPPED)
    page.emulate_media(reduced_motion="reduce")
    show(mesh([S]))
    server.close()

    page.wait_for_selector('[data-connection="reconnecting"]')
    assert page.evaluate("document.getAnimations().length") == 0


def test_a_name_that_looks_like_another_one_is_marked_and_spelt_out(show):
    lookalike = "pl\u0430to@127.0.0.1"
    page = show(mesh([P, lookalike]))

    assert "name not ASCII" in page.locator(node(lookalike)).text_content()
    assert "name not ASCII" not in page.locator(node(P)).text_content()
    page.locator(f"{node(lookalike)} .symbol").click()
    page.wait_for_selector("#details dd:has-text('pl\\\\u{430}to@127.0.0.1')")


FONTS = """() => [...document.querySelectorAll("#circle tspan")].filter((part) => part.textContent)
    .map((part) => parseFloat(getComputedStyle(part).fontSize) * part.ownerSVGElement.getScreenCTM().a)"""


@pytest.mark.parametrize("width", [320, 900, 1100, 1440])
def test_the_names_of_nodes_are_readable_and_free_of_the_legend(show, page, width):
    page.set_viewport_size({"width": width, "height": 700})
    show([report(name, busy={"for": 3, "line": "model.py:12 in predict", "gil": False}) for name in (S, P, A)])
    page.wait_for_selector(node(S))

    assert min(page.evaluate(FONTS)) > 8
    legend = page.locator("#legend").bounding_box()
    for label in page.locator(".node .label").all():
        box = label.bounding_box()
        assert box["y"] + box["height"] <= legend["y"] + 1


def test_a_small_screen_scrolls_in_one_direction_only(show, page):
    page.set_viewport_size({"width": 320, "height": 640})
    show(mesh([S, P, A]), [event("node_up", "x" * 300)])

    page.wait_for_selector(node(S))
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
