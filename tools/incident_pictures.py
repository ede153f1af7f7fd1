"""Write the pictures of docs/howto/incidents.md: three faults of real nodes, and the page of the map in Chromium.

usage: incident_pictures.py FOLDER [split held-loop slow-peer]

It needs root, for network namespaces. PYTHONPATH has tests/otp and tests/faults.
"""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from map_picture import TO_WEBP, wait_for
from netns import NetworkNamespace, Switch
from os_process import OsProcess
from polling import wait_until
from pynode import PyNode, python_environment

SIZE = {"width": 1280, "height": 700}
PORT = 4380
EPMD_PORT = 4369
COOKIE = "monster"
APP = """\
import time
from erlmesh import Atom, GenServer
class Orders(GenServer):
    async def handle_call(self, request, caller):
        if request is Atom("report"):
            time.sleep(9)
        return "done"
"""


class Stage:
    """Hosts, their nodes, and the page of a map that runs on the first host."""

    def __init__(self, names: list[str], tick_time: float, home: Path, on_close: contextlib.ExitStack) -> None:
        self.home = home
        self._on_close = on_close
        self.switch = Switch(len(names))
        on_close.callback(self.switch.close)
        self.nodes = [self._node(name, host, tick_time) for name, host in zip(names, self.switch.hosts, strict=True)]
        for node in self.nodes[1:]:
            wait_until(lambda node=node: node.ping(self.nodes[0].name), what="a connection")
        wait_until(lambda: all(len(node.nodes()) == len(names) - 1 for node in self.nodes), what="a mesh")

    def _node(self, name: str, host: NetworkNamespace, tick_time: float) -> PyNode:
        node = PyNode(
            f"{name}@{host.address}", epmd_port=EPMD_PORT, home=self.home, net_ticktime=tick_time,
            exec_prefix=host.exec_prefix,
        )  # fmt: skip
        self._on_close.callback(node.close)
        return node

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        """The page of the map, live, with all nodes and connections."""
        first, size = self.switch.hosts[0], len(self.nodes)
        command = [*first.exec_prefix, sys.executable, "-m", "erlmesh", "map", self.nodes[0].name]
        shown = OsProcess("map", command, python_environment(EPMD_PORT, self.home) | {"ERLMESH_COOKIE": COOKIE})
        self._on_close.callback(shown.close)
        wait_until(lambda: any("http://" in line for line in shown.log), what="a map")
        found = re.search(r"http://\S+", "\n".join(shown.log))
        assert found is not None
        chromium = self.home / "chromium"  # in the network of the first host, where the page is
        program = shutil.which("chromium") or shutil.which("google-chrome")
        chromium.write_text(f'#!/bin/sh\nexec {" ".join(first.exec_prefix)} {program} "$@"\n')
        chromium.chmod(0o700)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=str(chromium), args=["--no-sandbox", "--disable-gpu"]
            )  # fmt: skip
            page = browser.new_page(viewport=SIZE, color_scheme="light", locale="en-GB", timezone_id="UTC")
            page.goto(found[0])
            wait_for(page, ".link[data-state=up]", size * (size - 1) // 2)
            wait_for(page, ".node[data-state=up]", size)
            yield page
            browser.close()


def split(stage: Stage, page: Page) -> None:
    """The third of three hosts is cut off. Half of the net tick time has passed."""
    for node in stage.nodes:
        node.join("workers")
    wait_for(page, "[data-group] [data-member]", 3)
    stage.switch.partition([0, 1], [2])
    wait_for(page, ".link[data-state=silent]", 2)
    page.wait_for_selector(".node[data-state=old]")


def held_loop(stage: Stage, page: Page) -> None:
    """A callback computes for nine seconds, while another node waits for its reply."""
    orders, web = stage.nodes
    path = stage.home / "app.py"
    path.write_text(APP)
    orders.eval("exec(compile(SOURCE, PATH, 'exec'), globals())", SOURCE=APP, PATH=str(path))
    orders.eval("await Orders.start(node, name='orders') and None")
    web.eval("exec(SOURCE, globals())", SOURCE=ASK)
    web.eval("node.spawn(ask, WHERE) and None", WHERE=orders.name)
    page.wait_for_selector(".node[data-state=busy]:has-text('busy 5')")


ASK = """
from erlmesh import Atom
async def ask(me, where):
    await me.call(("orders", where), Atom("report"), timeout=30)
"""


def slow_peer(stage: Stage, page: Page) -> None:
    """A sender whose peer stands still: the queue is full, and the silence grows."""
    feed, slow = stage.nodes
    slow.eval("exec(SOURCE, globals())", SOURCE=SINK)
    slow.eval("node.register('sink', node.spawn(sink)) and None")
    feed.eval("exec(SOURCE, globals())", SOURCE=FEED)
    feed.eval("node.spawn(feed, WHERE) and None", WHERE=slow.name)
    page.wait_for_selector(".link-label:has-text('MB/s')")
    slow.stop()
    page.wait_for_selector(".link[data-state=silent]")
    page.locator(".link .hit").dispatch_event("click")
    page.wait_for_selector("#details dt:has-text('queued')")


SINK = "async def sink(me):\n    while True: await me.receive()\n"
FEED = """
import asyncio
async def feed(me, where):
    while True:
        me.send(("sink", where), bytes(20_000), wait=False)
        await asyncio.sleep(0.005)
"""

SCENES: dict[str, tuple[list[str], float, Callable[[Stage, Page], None]]] = {
    "split": (["n1", "n2", "n3"], 8.0, split),
    "held-loop": (["orders", "web"], 60.0, held_loop),
    "slow-peer": (["feed", "slow"], 20.0, slow_peer),
}


def main(folder: Path, scenes: list[str]) -> None:
    for scene in scenes or SCENES:
        names, tick_time, play = SCENES[scene]
        with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as on_close:
            stage = Stage(names, tick_time, Path(home), on_close)
            with stage.page() as page:
                play(stage, page)
                png = base64.b64encode(page.screenshot()).decode()
                page.goto("about:blank")
                (folder / f"incident-{scene}.webp").write_bytes(base64.b64decode(page.evaluate(TO_WEBP, png)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
