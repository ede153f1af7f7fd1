"""Write the tables of limits in docs/explanation/threat-model.md, from NodeConfig and from the constants of the code.

make docs-tables
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from docs_tables import docstrings
from erlmesh.discovery import gossip_settings
from erlmesh.proto import epmd as epmd_protocol
from erlmesh.proto import handshake_driver
from erlmesh.records import fields
from erlmesh.runtime import attempts
from erlmesh.runtime.config import NodeConfig, options_of
from erlmesh.services import io_format, output
from erlmesh.terms import foreign_text

TARGET: Final = Path(__file__).parent.parent / "docs" / "explanation" / "threat-model.md"
MARKED: Final = re.compile(r"(<!-- limits: `make docs-tables` writes this -->\n).*?(<!-- limits: end -->\n)", re.DOTALL)

LIMIT_NAME: Final = re.compile(r"limit|per_address|delay|threads")
"""The fields of NodeConfig that limit what others can use."""

FIXED: Final = (
    ("seconds for a whole handshake, with TLS and the search for the node", handshake_driver.SETUP_TIMEOUT, "seconds"),
    ("seconds for the request of a client of EPMD", epmd_protocol.REQUEST_TIMEOUT, "seconds"),
    ("nodes of one host in this node's own EPMD", epmd_protocol.MAX_NODES, ""),
    ("nodes that wait to be dialled", attempts.DIAL_QUEUE_LIMIT, ""),
    ("nodes of a gossip without a secret that are dialled", gossip_settings.MAX_OPEN_NODES, ""),
    ("characters of a text of others in the log and on the terminal", foreign_text.MAX_LENGTH, ""),
    ("text for an output that nobody reads", output.QUEUE_LIMIT, "bytes"),
    ("characters that one request of `io` prints", io_format.MAX_TEXT, ""),
    ("width of a field of `io:format`", io_format.MAX_WIDTH, ""),
)
"""Limits that are not options: what is limited, the constant, and its unit."""


def limit_fields() -> list[str]:
    """Return the names of the fields of NodeConfig that are limits."""
    return [each.name for each in fields(NodeConfig) if LIMIT_NAME.search(each.name)]


def tables() -> str:
    """Return both tables."""
    defaults, texts = {each.name: each.default for each in fields(NodeConfig)}, docstrings(NodeConfig)
    configurable = "".join(_row(name, defaults[name], texts[name]) for name in limit_fields())
    fixed = "".join(f"| {what} | {_shown(value, unit)} |\n" for what, value, unit in FIXED)
    return (
        f"| `Node(…)` | default | option | |\n|---|---|---|---|\n{configurable}\n"
        f"These limits are not options:\n\n| what | limit |\n|---|---|\n{fixed}"
    )


def _row(name: str, default: object, text: str) -> str:
    return f"| `{name}` | {_shown(default, _unit(name, text))} | {_option(name)} | {_first_sentence(text)} |\n"


def _unit(name: str, text: str) -> str:
    return "bytes" if "bytes" in text.lower() or "receive" in name else "seconds" if "seconds" in text.lower() else ""


def _shown(value: object, unit: str) -> str:
    if value is None:
        return "[it depends](../reference/configuration.md)"
    if unit == "bytes" and isinstance(value, int) and value >= 1 << 20 and value % (1 << 20) == 0:
        return f"{value >> 20} MiB"
    if isinstance(value, int | float):
        return f"{value:,g} s" if unit == "seconds" else f"{value:,}"
    return str(value)


def _option(name: str) -> str:
    return ", ".join(f"`{each.flag}`" for each in options_of(NodeConfig)[name])


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[a-z0-9`)])\. ", text)[0].removesuffix(".")


def page() -> str:
    """Return the text of the page with current tables."""
    text = TARGET.read_text(encoding="utf-8")
    assert MARKED.search(text), "the page has no marks for the tables"
    return MARKED.sub(lambda found: found[1] + tables() + found[2], text)


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
