"""Write the table of events in docs/reference/log-events.md from the source.

make docs-tables
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from erlmesh.log_events import EVENTS
from log_calls import LogCall, log_calls

TARGET: Final = Path(__file__).parent.parent / "docs" / "reference" / "log-events.md"
MARKED: Final = re.compile(r"(<!-- events: `make docs-tables` writes this -->\n).*?(<!-- events: end -->\n)", re.DOTALL)
ORDER: Final = ("debug", "info", "warning", "error", "varies")


def table() -> str:
    """Return the table of all events, in the order of the catalogue."""
    calls = log_calls()
    rows = "".join(_row(event, text, [call for call in calls if call.event == event]) for event, text in EVENTS.items())
    return f"| event | level | logger | fields | meaning |\n|---|---|---|---|---|\n{rows}"


def _row(event: str, text: str, calls: list[LogCall]) -> str:
    levels = sorted({call.level for call in calls}, key=ORDER.index)
    loggers = sorted({call.logger for call in calls})
    fields = sorted({field for call in calls for field in call.fields})
    shown = ", ".join(f"`{field}`" for field in fields)
    return f"| `{event}` | {', '.join(levels)} | {', '.join(f'`{name}`' for name in loggers)} | {shown} | {text} |\n"


def page() -> str:
    """Return the text of the page with the current table."""
    text = TARGET.read_text(encoding="utf-8")
    assert MARKED.search(text), "the page has no marks for the table"
    return MARKED.sub(lambda found: found[1] + table() + found[2], text)


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
