"""How tests address the elements of the page."""

from __future__ import annotations

import json
from typing import Any


def node(name: str, **attributes: str) -> str:
    """The element of a node, with these ``data-`` attributes."""
    return f"[data-node={json.dumps(name, ensure_ascii=False)}]" + "".join(
        f'[data-{key}="{value}"]' for key, value in attributes.items()
    )


def connection(one: str, other: str, **attributes: str) -> str:
    """The element of a connection, with these ``data-`` attributes."""
    found = "".join(f'[data-{key}="{value}"]' for key, value in attributes.items())
    return f"[data-link={json.dumps('|'.join(sorted((one, other))))}]" + found


def count(page: Any, selector: str, expected: int) -> None:
    """Wait until ``expected`` elements match."""
    page.wait_for_function(
        "([selector, expected]) => document.querySelectorAll(selector).length === expected", arg=[selector, expected]
    )
