"""Write the picture of the map in the README: real nodes, one of which is killed, and the page in Chromium.

usage: map_picture.py FILE.webp
"""

from __future__ import annotations

import base64
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from erlmesh.demo.local import HOST, free_port
from erlmesh.demo.map_page import LocalMap
from erlmesh.demo.shells import PythonShell, ShellProcess, iex

NAMES = ("socrates", "plato", "aristotle", "hypatia", "diogenes")
KILLED = "diogenes"
TO_WEBP = """async (png) => {
    const image = new Image();
    image.src = `data:image/png;base64,${png}`;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    canvas.getContext("2d").drawImage(image, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/webp", quality: 0.9 });
    const bytes = new Uint8Array(await blob.arrayBuffer());
    return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}"""
SHARDS = 48
SIZE = {"width": 1280, "height": 800}


def main(picture: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shells: list[ShellProcess] = []
        try:
            take(picture, Path(folder), shells)
        finally:
            for shell in shells:
                shell.close()


def take(picture: Path, folder: Path, shells: list[ShellProcess]) -> None:
    cookie, port = folder / "cookie", free_port()
    cookie.touch(mode=0o600)
    cookie.write_text(secrets.token_hex(10))
    shells += [PythonShell(f"{name}@{HOST}", cookie, port) for name in NAMES]
    program = shutil.which("iex")
    if program is None:
        sys.exit("Elixir is not installed: one node of the picture is a BEAM")
    for shell in shells:
        shell.wait_up()
    diotima = iex(program, f"diotima@{HOST}", cookie.read_text(), port)
    shells.append(diotima)
    diotima.wait_up()
    diotima.ask(":pg.start_link()")
    for shell in shells[1:]:
        shell.ask(f'Node.ping(:"{NAMES[0]}@{HOST}")')
    shown = LocalMap([shell.name for shell in shells], cookie, port, folder / "map.log")
    try:
        photograph(picture, shown.url, shells)
    finally:
        shown.close()


def photograph(picture: Path, url: str, shells: list[ShellProcess]) -> None:
    with sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=SIZE, color_scheme="light", locale="en-GB", timezone_id="UTC")
        page.goto(url)
        wait_for(page, ".link[data-state=up]", len(shells) * (len(shells) - 1) // 2)
        fill(shells)
        wait_for(page, '[data-group="pg|workers"] [data-member]', len(shells))
        wait_for(page, "[data-shards=orders] .load li", 3)
        wait_for(page, '[data-shard][data-state="owned"]', SHARDS)
        next(shell for shell in shells if shell.alive_name == KILLED).kill()
        page.wait_for_selector(f'[data-node="{KILLED}@{HOST}"][data-state="gone"]')
        wait_for(page, '[data-group="pg|workers"] [data-member]', len(shells) - 1)
        wait_for(page, "[data-unseen=true]", 0)
        time.sleep(2.5)  # the next report of each node: figures after the change
        png = base64.b64encode(page.screenshot()).decode()
        page.goto("about:blank")
        picture.write_bytes(base64.b64decode(page.evaluate(TO_WEBP, png)))
        browser.close()


def fill(shells: list[ShellProcess]) -> None:
    """Put the shells into groups, and let some hold shards."""
    for shell in shells:
        shell.ask(":pg.join(:workers, self)" if isinstance(shell, PythonShell) else ":pg.join(:workers, self())")
    for shell in shells[:2]:
        shell.ask(":pg.join(:models, self)")
    for shell in shells[:3]:
        shell.ask(f"me.node.shards('orders', shards={SHARDS}, settle=0.2, release_timeout=0.1, process=me).start()")


def wait_for(page: Page, selector: str, amount: int) -> None:
    page.wait_for_function(
        "([selector, amount]) => document.querySelectorAll(selector).length === amount", arg=[selector, amount]
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
