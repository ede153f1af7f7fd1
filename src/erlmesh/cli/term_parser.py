"""Parse terms that users type as arguments, in Elixir's or Erlang's notation. No I/O, and no code is run.

======================================  ==========================================
typed                                   term
======================================  ==========================================
``:name``, ``:"a name"``, ``'a name'``  atom
``name`` inside another term            atom, as in Erlang: ``{room, 1}``
``Some.Module`` inside another term     atom of an Elixir module: ``{Some.Module, 1}``
``"text"``, ``<<"text">>``, ``<<1,2>>`` binary
``7``, ``-7``, ``1.5``                  number
``{:room, 1}``                          tuple
``[1, 2]``, ``[a: 1]``                  list, keyword list
``%{a: 1}``, ``%{"k" => 1}``            map; in Erlang ``#{a => 1}``
``true``, ``false``, ``nil``            atom
======================================  ==========================================

``"text"`` is a binary, as in Elixir. In Erlang it is a list of numbers: type ``[104, 105]`` for that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

from erlmesh.terms import Atom, Map, Term

__all__ = ["format_argument", "parse_atom", "parse_group", "parse_term"]

T = TypeVar("T")

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<atom>:(?:[A-Za-z_][\w@]*[!?]?(?:\.\w+)*|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'))
    | (?P<quoted>'(?:[^'\\]|\\.)*')
    | (?P<text>"(?:[^"\\]|\\.)*")
    | (?P<number>-?\d+(?:\.\d+(?:[eE][+-]?\d+)?)?(?![\w.]))
    | (?P<key>[A-Za-z_][\w@]*:(?=\s))
    | (?P<word>[A-Za-z_][\w@]*(?:\.\w+)*)
    | (?P<mark><<|>>|=>|%\{|\#\{|[{}\[\],])
    )""",
    re.VERBOSE | re.DOTALL,
)
_STARTS_A_TERM: Final = re.compile(r"""[:'"{\[]|<<|%\{|\#\{|-?\d+(\.\d+)?$""")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}


def parse_group(text: str) -> Term:
    """The group that a command line names: a term, or any other text as it stands, which is a binary.

    So ``greeters`` is the group of ``pg.join("greeters", pid)``, and ``:greeters`` that of ``pg:join(greeters, Pid)``.
    Raises ``ValueError`` for a term that is not complete.
    """
    if not text:
        raise ValueError('a group needs a name, such as greeters or :greeters; the empty binary is ""')
    return parse_term(text) if _STARTS_A_TERM.match(text) else text.encode()


def format_argument(group: Atom | str) -> str:
    """What to type for an atom, or for a text that is a binary: the reverse of :func:`parse_group`."""
    text = group.name if isinstance(group, Atom) else group
    quoted = '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
    if isinstance(group, Atom):
        return f":{text}" if re.fullmatch(r"[A-Za-z_]\w*", text) else f":{quoted}"
    return quoted if not text or _STARTS_A_TERM.match(text) else text


def parse_atom(text: str) -> str:
    """The text of an argument that is always an atom (a node, a scope): ``pg``, ``:pg``, ``:"pg"`` and ``'pg'``."""
    if text[:1] not in (":", "'") or len(text) == 1:
        return text
    term = parse_term(text)
    assert isinstance(term, Atom)
    return term.name


def parse_term(text: str) -> Term:
    """The term in ``text``. Raises ``ValueError``, which shows where it is not a term."""
    parser = _Parser(text)
    term = parser.term()
    parser.expect_end()
    return term


class _Parser:
    """A recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def term(self) -> Term:
        kind, token = self._next()
        match kind:
            case "atom":
                return Atom(_unquoted(token[1:]))
            case "quoted":
                return Atom(_unquoted(token))
            case "text":
                return _unquoted(token).encode()
            case "number":
                return float(token) if "." in token else int(token)
            case "word":
                return _word(token)
        match token:
            case "{":
                return tuple(self._items("}", self.term))
            case "[":
                return self._items("]", self._element)
            case "%{" | "#{":
                return Map(self._items("}", self._pair))
            case "<<":
                return b"".join(self._items(">>", self._segment))
        raise self._error()

    def expect_end(self) -> None:
        if self._text[self._position :].strip():
            self._next()
            raise self._error()

    def _items(self, end: str, item: Callable[[], T]) -> list[T]:
        """Items up to ``end``, with commas between them."""
        items: list[T] = []
        if self._accept(end):
            return items
        while True:
            items.append(item())
            if self._accept(end):
                return items
            if not self._accept(","):
                self._next()
                raise self._error()

    def _element(self) -> Term:
        key = self._key()
        return self.term() if key is None else (key, self.term())

    def _pair(self) -> tuple[Term, Term]:
        key: Term = self._key()
        if key is None:
            key = self.term()
            if not self._accept("=>"):
                self._next()
                raise self._error()
        return key, self.term()

    def _segment(self) -> bytes:
        match self.term():
            case bytes() as text:
                return text
            case int() as byte if 0 <= byte < 256:
                return bytes([byte])
        raise self._error()

    def _key(self) -> Atom | None:
        """The atom of ``key:`` in a keyword list or a map."""
        found = _TOKEN.match(self._text, self._position)
        if found is None or found.lastgroup != "key":
            return None
        self._position = found.end()
        return Atom(found["key"][:-1])

    def _accept(self, mark: str) -> bool:
        found = _TOKEN.match(self._text, self._position)
        if found is None or found["mark"] != mark:
            return False
        self._position = found.end()
        return True

    def _next(self) -> tuple[str, str]:
        found = _TOKEN.match(self._text, self._position)
        if found is None or found.lastgroup is None:
            self._start = self._position
            raise self._error()
        self._start, self._position = found.start(), found.end()
        return found.lastgroup, found[found.lastgroup]

    def _error(self) -> ValueError:
        rest = self._text[self._start :].strip()
        where = f"at {rest!r}" if rest else "it is not complete"
        return ValueError(f'{self._text!r} is not a term: {where}. Type for example :name, "text", 7 or {{:room, 1}}')


def _word(text: str) -> Term:
    """``true``, an Erlang atom, or the alias of an Elixir module, whose atom starts with ``Elixir.``."""
    if text in ("true", "false"):
        return text == "true"
    alias = text[0].isupper() and not text.startswith("Elixir.")
    return Atom(f"Elixir.{text}" if alias else text)


def _unquoted(text: str) -> str:
    if text[0] not in "\"'":
        return text
    return re.sub(r"\\(.)", lambda escaped: _ESCAPES.get(escaped[1], escaped[1]), text[1:-1], flags=re.DOTALL)
