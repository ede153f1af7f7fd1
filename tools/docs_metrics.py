"""Write the table of metrics in docs/howto/metrics.md from the catalogue.

make docs-tables
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from erlmesh.services.metrics.catalogue import METRICS

TARGET: Final = Path(__file__).parent.parent / "docs" / "howto" / "metrics.md"
MARKED: Final = re.compile(
    r"(<!-- metrics: `make docs-tables` writes this -->\n).*?(<!-- metrics: end -->\n)", re.DOTALL
)


def table() -> str:
    """Return the table of all metrics."""
    rows = "".join(
        f"| `{each.series}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} | {each.text} |\n"
        for each in METRICS
    )
    return f"| metric | kind | labels | meaning |\n|---|---|---|---|\n{rows}"


def page() -> str:
    """Return the text of the page with the current table."""
    text = TARGET.read_text(encoding="utf-8")
    assert MARKED.search(text), "the page has no marks for the table"
    return MARKED.sub(lambda found: found[1] + table() + found[2], text)


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
