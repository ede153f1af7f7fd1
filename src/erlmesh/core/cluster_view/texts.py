"""Terms, pids and names of other nodes as short printable texts, in Erlang's notation."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from erlmesh.terms import Atom, Pid, Term
from erlmesh.terms.foreign_text import foreign_text

__all__ = ["columns_of", "fitting", "parse_pid", "pid_text", "plain_text", "term_text"]

_DEPTH: Final = 3
_ITEMS: Final = 8
_PID: Final = re.compile(r"<0\.(\d{1,10})\.(\d{1,10})>")


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a printable text takes: some letters of Asia take two, marks none."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fitting(text: str, columns: int) -> str:
    """Return the part of ``text`` that fits into so many columns of a terminal."""
    if text.isascii():
        return text[: max(0, columns)]
    kept = 0
    for character in text:
        columns -= _columns(character)
        if columns < 0:
            break
        kept += 1
    return text[:kept]


def term_text(term: Term) -> str:
    """Return a term as it is typed in Erlang. A long or deep one is cut, and nothing is raised."""
    return foreign_text(_text(term, _DEPTH))


def _text(term: Term, depth: int) -> str:
    """Return binaries that are texts as ``<<"…">>``, also in small tuples. All else has the text of a log line."""
    if type(term) is bytes and len(term) <= 200:
        try:
            text = term.decode()
        except UnicodeDecodeError:
            return foreign_text(term)
        return f'<<"{text}">>'
    if type(term) is str:
        return f'<<"{term[:200]}">>'
    if type(term) is tuple and depth and len(term) <= _ITEMS:
        return "{" + ",".join(_text(each, depth - 1) for each in term) + "}"
    if type(term) is Atom:
        return term.name
    return foreign_text(term)


def plain_text(text: Term) -> str:
    """Return a text of another node, which may be a binary, as a short printable one."""
    return foreign_text(text.decode(errors="replace") if isinstance(text, bytes) else text)


def pid_text(pid: Pid) -> str:
    """Return a pid as its own node prints it. The node is told beside it."""
    return f"<0.{pid.id}.{pid.serial}>"


def parse_pid(text: str, node: str, creation: int) -> Pid:
    """Return the pid with that text on the incarnation ``creation`` of ``node``. Raises ``ValueError``."""
    match = _PID.fullmatch(text)
    if match is None:
        raise ValueError(f"{foreign_text(text)} is not a pid such as <0.114.0>")
    number, serial = int(match[1]), int(match[2])
    if max(number, serial) >= 1 << 32:
        raise ValueError(f"{text} is not a pid: its numbers have at most 32 bits")
    return Pid(Atom(node), number, serial, creation)
