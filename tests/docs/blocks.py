"""The code blocks of the documents.

A comment line before a block gives it attributes: ``<!-- session: NAME -->``, ``<!-- check: NAME -->``. Readers do not
see such a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "Kill", "all_blocks", "block", "documents", "elements"]

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\S*)\s*$")
_ATTRIBUTE = re.compile(r"^<!-- (session|check|kill): (\S+) -->$")


@dataclass(frozen=True)
class Block:
    """One fenced block. ``line`` is the line of its first fence."""

    page: str
    line: int
    language: str
    text: str
    session: str
    """The session that the block belongs to: by default, all blocks of a page are one session."""
    check: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_directive(self) -> bool:
        """Sphinx handles it, not a reader."""
        return self.language.startswith("{")


@dataclass(frozen=True)
class Kill:
    """``<!-- kill: NODE -->``: the text tells the reader to end that node here."""

    session: str
    node: str


def documents() -> list[Path]:
    """README, CONTRIBUTING and all pages."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def elements(page: Path) -> Iterator[Block | Kill]:
    """The blocks and the kills of a page, in their order."""
    name = str(page.relative_to(ROOT))
    attributes: dict[str, str] = {}
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        if attribute := _ATTRIBUTE.match(line):
            attributes[attribute[1]] = attribute[2]
            if attribute[1] == "kill":
                yield Kill(attributes.get("session", name), attributes.pop("kill"))
        elif fence := _FENCE.match(line):
            body = []
            for _, inner in lines:
                if inner == "```":
                    break
                body.append(inner)
            session = attributes.setdefault("session", name)
            yield Block(name, number, fence[1], "\n".join(body) + "\n", session, attributes.pop("check", None))


def all_blocks() -> list[Block]:
    """Every block of every document, except those of Sphinx."""
    return [
        each for page in documents() for each in elements(page) if isinstance(each, Block) and not each.is_directive
    ]


def block(check: str) -> str:
    """Return the text of the one block that is marked with ``check``."""
    (found,) = [each for each in all_blocks() if each.check == check]
    return found.text
