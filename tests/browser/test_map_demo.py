"""`erlmesh demo --map` as a user runs it on a terminal, with its page in Chromium."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from map_server import SERVER_STOPPED
from selectors_of_page import count, node

import erlmesh
from terminal import Terminal

NAMES = [f"{name}@127.0.0.1" for name in ("aristotle", "plato", "socrates")]


def test_the_demo_shows_its_nodes_on_a_page_and_waits_for_the_user(page: Any, tmp_path: Path) -> None:
    page.allowed.extend(SERVER_STOPPED)
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment |= {"PYTHONPATH": str(Path(erlmesh.__file__).parents[1]), "HOME": str(tmp_path)}
    terminal = Terminal([sys.executable, "-m", "erlmesh", "demo", "--map", "--without-elixir"], environment)
    try:
        terminal.wait_for("Press Enter for the next part.")
        address = re.search(r"http://[\d.:]+/", terminal.output)
        assert address is not None, terminal.output

        page.goto(address[0])
        for name in NAMES:
            page.wait_for_selector(node(name, state="up"))
        for _ in range(3):
            terminal.press("\n")
            terminal.wait_for("Press Enter for the next part.")
        count(page, ".link[data-state=up]", 3)
        terminal.press("\n")
        terminal.wait_for("Press Enter for the next part.")
        page.wait_for_selector(node("socrates@127.0.0.1", state="gone"))
        for _ in range(2):
            terminal.press("\n")
            terminal.wait_for("Press Enter")
        page.wait_for_selector(node("socrates@127.0.0.1", state="up"))
        count(page, '[data-group="pg|workers"] [data-member]', 3)
        terminal.press("\n")

        assert terminal.wait_exit() == 0
        page.wait_for_selector('[data-connection="reconnecting"]')
    finally:
        terminal.close()
