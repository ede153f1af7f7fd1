"""Terms, pids and names of other nodes as short printable texts, in Erlang's notation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from hashlib import blake2b
from itertools import chain, islice
from typing import Final

from erlmesh.terms import Atom, Map, Pid, Ref, Term
from erlmesh.terms.foreign_text import foreign_text, printable

__all__ = ["columns_of", "fitting", "name_text", "parse_pid", "pid_text", "plain_text", "term_name", "term_text"]

MAX_NAME: Final = 255
"""Characters of a name. An atom has no more, so the name of a node is cut only if it is not printable."""
MAX_TERM_NAME: Final = 200
_HASH_BYTES: Final = 5
_HASHED: Final = 4096
"""Bytes and elements of a term that its hash depends on, about. A term may be huge."""
_DECODED: Final = 800
"""Bytes of a binary that are looked at. 200 characters have no more."""
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


def term_name(term: Term) -> str:
    """Return the text of a term that names something, as a group.

    A text that is cut ends with a hash of the term. So two names that start equally are not taken for one.
    """
    text = printable(_text(term, _DEPTH))
    if len(text) <= MAX_TERM_NAME and not text.endswith("…"):
        return text
    return _cut(text, MAX_TERM_NAME, _term_hash(term))


def name_text(name: object) -> str:
    """Return a name, as that of a node, as printable text. One that is cut ends with a hash.

    Such a text is returned as it is.
    """
    if not isinstance(name, str):
        return foreign_text(name)
    if len(name) <= MAX_NAME and len(text := printable(name)) <= MAX_NAME:
        return text
    digest = blake2b(name[:_HASHED].encode(errors="surrogatepass"), digest_size=_HASH_BYTES).hexdigest()
    return _cut(printable(name[:MAX_NAME]), MAX_NAME, digest)


def _cut(text: str, length: int, digest: str) -> str:
    return f"{text[: length - 1 - len(digest)].rstrip('…')}…{digest}"


def _term_hash(term: Term) -> str:
    """Return a hash of the beginning of a term. It is the same on each node."""
    digest = blake2b(digest_size=_HASH_BYTES)
    pending, room = [term], _HASHED
    while pending and room > 0:
        item = pending.pop()
        if isinstance(item, (tuple, list)):
            piece = b"%b %d;" % (b"tuple" if isinstance(item, tuple) else b"list", len(item))
            pending.extend(reversed(item[:room]))
        elif isinstance(item, (Map, Mapping)):
            piece = b"map %d;" % len(item)
            pending.extend(islice(chain.from_iterable(item.items()), room))
        elif isinstance(item, (bytes, str)):
            data = item.encode(errors="surrogatepass") if isinstance(item, str) else item
            piece = b"%d %b;" % (len(data), data[:room])
        else:
            piece = f"{_text(item, 0)};".encode(errors="surrogatepass")
        digest.update(piece)
        room -= len(piece)
    return digest.hexdigest()


def _text(term: Term, depth: int) -> str:
    """Return binaries that are texts as ``<<"…">>``, also in small tuples. All else has the text of a log line."""
    if type(term) is bytes:
        found = _decoded(term)
        return foreign_text(term) if found is None else f'<<"{found[:200]}">>'
    if type(term) is str:
        return f'<<"{term[:200]}">>'
    if type(term) is tuple and depth and len(term) <= _ITEMS:
        return "{" + ",".join(_text(each, depth - 1) for each in term) + "}"
    if type(term) is Atom:
        return term.name
    if isinstance(term, Ref):
        return f"#Ref<0.{'.'.join(map(str, reversed(term.words)))}>"
    return foreign_text(term)


def _decoded(data: bytes) -> str | None:
    """Return the beginning of a text in UTF-8; None if it is none."""
    try:
        return data[:_DECODED].decode()
    except UnicodeDecodeError as error:
        is_cut = len(data) > _DECODED and error.start > _DECODED - 4
        return data[: error.start].decode() if is_cut else None


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
