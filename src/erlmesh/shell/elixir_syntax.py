"""Translate lines in Elixir syntax to Python. Text in, text out; no I/O.

=============================  =================================
typed                          read as
=============================  =================================
``:group``, ``:"plato@x.y"``   ``Atom("group")``, ``Atom("plato@x.y")``
``:pg2.create(:group)``        ``pg2.create(Atom("group"))``, with the module of the shell
``{:ok, pid}``, ``{:ok}``      ``(Atom("ok"), pid,)``, ``(Atom("ok"),)``
``%{a: 1, "b" => 2}``          ``{Atom("a"): 1, "b": 2}``
``#PID<0.64.0>``               ``pid("0.64.0")``
``true``, ``false``, ``nil``   ``True``, ``False``, ``Atom("nil")``
``Process.alive?(p)``          ``Process.alive(p)``
``Node.ping :plato``           ``Node.ping(Atom("plato"))``
=============================  =================================

The names ``Atom``, ``pid`` and ``pg2`` are :func:`hidden` ones, because a user may use the plain names for variables.

:mod:`erlmesh.shell.parser` uses the translation only for a line that is *not* valid Python, so a line of Python keeps
its meaning. A line may mix both languages. A lexer finds strings, comments, slices, dict displays, lambdas and
annotations, and the translation does not change them.
"""

from __future__ import annotations

import keyword
import re
from typing import Final

from erlmesh.records import field, record

__all__ = ["ERLANG_MODULES", "code_of", "has_pid_literal", "hidden", "strings_of", "translate"]

_LEXEMES: Final = re.compile(
    r"""
      (?P<pid>\#PID<\d+\.\d+\.\d+>)
    | (?P<comment>\#[^\n]*)
    | (?P<string>[rRbBuUfF]{0,2}(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''
                                  |"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    | (?P<name>[^\W\d]\w*)
    | (?P<number>\d(?:\w|\.(?=\d))*)
    | (?P<space>(?:[ \t\f]|\\\n)+)
    | (?P<newline>\n)
    | (?P<op>=>|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_MODULES: Final = {"global": "global_"}  # a keyword in Python
ERLANG_MODULES: Final = frozenset(
    {"pg", "pg2", "global_", "rpc", "erpc", "net_adm", "net_kernel", "sys", "erlang", "gen_server"}
)
"""The modules of OTP that the shell has, by the names they have in Python."""
_CLAUSES: Final = frozenset({"else", "try", "finally", "lambda", "except"})  # a colon may follow directly
_BARE_CALLS: Final = frozenset({"send", "spawn", "exit", "monitor", "link", "h", "i", "v", "pid", "node"})


def hidden(name: str) -> str:
    """Return the name that translated lines use in place of ``name``, which the user may bind to another value."""
    return f"__{name}__"


_ATOM: Final = hidden("Atom")
_CONSTANTS: Final = {"true": "True", "false": "False", "nil": f'{_ATOM}("nil")'}


@record(frozen=True)
class _Lexeme:
    kind: str
    text: str


@record
class _Bracket:
    """An open bracket: its position in the output, and what was found directly inside it."""

    char: str
    position: int
    subscript: bool = False
    is_map: bool = False
    is_python: bool = False  # a dict display, a comprehension or an unpacked mapping: the braces stay


def has_pid_literal(source: str) -> bool:
    """Return true if ``#PID<0.64.0>`` occurs outside strings and comments. For Python it would be a comment."""
    return any(lexeme.kind == "pid" for lexeme in _lexemes(source))


def translate(source: str) -> str:
    """Return ``source`` with the syntax of the table above rewritten. Unbalanced or unknown parts do not change."""
    return _Translation(_lexemes(source)).text()


def code_of(source: str) -> str:
    """Return ``source`` with empty strings and no comments: what is left has no text that only looks like code."""
    kept = {"string": '""', "comment": ""}
    return "".join(kept.get(lexeme.kind, lexeme.text) for lexeme in _lexemes(source))


def strings_of(source: str) -> list[str]:
    """Return the string literals of ``source``, with their quotes and prefixes."""
    return [lexeme.text for lexeme in _lexemes(source) if lexeme.kind == "string"]


def _lexemes(source: str) -> list[_Lexeme]:
    return [_Lexeme(match.lastgroup or "op", match.group()) for match in _LEXEMES.finditer(source)]


@record
class _Translation:
    lexemes: list[_Lexeme]
    position: int = 0
    output: list[str] = field(default_factory=list)
    brackets: list[_Bracket] = field(default_factory=list)
    last: _Lexeme | None = None  # the last lexeme that was neither space nor comment
    adjacent: bool = False  # no space or comment between ``last`` and the current lexeme
    callee: bool = True  # only a dotted name since the start of the statement (or its "=")
    dotted: bool = False
    in_bare_call: bool = False  # a call without parentheses is open; it ends with the line

    def text(self) -> str:
        while self.position < len(self.lexemes):
            lexeme = self.lexemes[self.position]
            if self._opens_bare_call(lexeme):
                lexeme = _Lexeme("space", "(")
            if lexeme.kind in ("space", "comment"):
                if lexeme.kind == "comment":
                    self._close_bare_call()
                self.output.append(lexeme.text)
                self.adjacent = False
            else:
                self._translate_lexeme(lexeme)
                self.last, self.adjacent = self.lexemes[self.position], True  # the position may have advanced
            self.position += 1
        self._close_bare_call()
        return "".join(self.output)

    def _translate_lexeme(self, lexeme: _Lexeme) -> None:
        match lexeme.kind, lexeme.text:
            case "pid", text:
                self.output.append(f'{hidden("pid")}("{text[5:-1]}")')
                self.callee = False
            case "name", text:
                self._name(text)
            case "newline", _:
                if not self.brackets:
                    self._close_bare_call()
                    self.callee, self.dotted = True, False
                self.output.append("\n")
            case "op", ":" if self._begins_atom():
                self._atom()
            case "op", text:
                self._operator(text)
            case _, text:
                self.output.append(text)
                self.callee = False

    def _name(self, name: str) -> None:
        after_dot = self.adjacent and self._last_is(".")
        if name == "for" and self.brackets:
            self.brackets[-1].is_python = True
        if keyword.iskeyword(name):
            self.callee = name in ("await", "return")
            self.output.append(name)
        elif self.brackets and self.brackets[-1].is_map and self._next_is(":") and not self._begins_atom(1):
            self.output.append(f'{_ATOM}("{name}")')
        else:
            self.output.append(name if after_dot else _CONSTANTS.get(name, name))

    def _operator(self, op: str) -> None:
        if op in "([{":
            subscript = op == "[" and self.adjacent and self._last_ends_an_expression()
            is_map = op == "{" and self.adjacent and self._last_is("%") and self.output[-1] == ""
            self.brackets.append(_Bracket(op, len(self.output), subscript, is_map))
            self.output.append(op)
            self.callee = False
        elif op in ")]}" and self.brackets:
            self._close(op)
        elif op == "%" and self._next_is("{") and not self._last_ends_an_expression():
            self.output.append("")
        elif op == "?" and self.adjacent and self.last is not None and self.last.kind == "name":
            pass  # the end of a name in Elixir
        elif op == "=>" and self.brackets and self.brackets[-1].is_map:
            self.output.append(":")
        else:
            self._plain_operator(op)

    def _plain_operator(self, op: str) -> None:
        if self.brackets and op == ":":
            self.brackets[-1].is_python = True
        if op == "*" and self._last_is("*") and self.brackets:
            self.brackets[-1].is_python = True
        if op == ".":
            self.dotted = True
        else:
            self.callee, self.dotted = op in "=;" and not self.brackets, False
            if op == ";":
                self._close_bare_call()
        self.output.append(op)

    def _close(self, op: str) -> None:
        bracket = self.brackets.pop()
        if op == "}" and bracket.char == "{" and not bracket.is_map and not bracket.is_python:
            empty = not "".join(self.output[bracket.position + 1 :]).strip()
            self.output[bracket.position] = "("
            op = ")" if empty or self._last_is(",") else ",)"
        self.output.append(op)

    # atoms

    def _begins_atom(self, ahead: int = 0) -> bool:
        """Return true if the colon here (or ``ahead`` lexemes later) begins an atom and is not Python syntax."""
        follower = self._peek(ahead + 1)
        if follower is None or not (follower.kind == "name" or _is_plain_string(follower)):
            return False
        if ahead:
            return False  # a colon directly after a name
        if self.brackets and self.brackets[-1].subscript:
            return False
        last = self.last
        if last is None or last.kind == "newline":
            return True
        if last.kind == "name" and keyword.iskeyword(last.text):
            return not self.adjacent and last.text != "lambda"
        if self._last_ends_an_expression():
            return not self.adjacent and not self.brackets and last.kind == "name"
        return not (self.adjacent and last.text == ":")

    def _atom(self) -> None:
        name = self.lexemes[self.position + 1]
        self.position += 1
        if name.kind == "string":
            self.output.append(f"{_ATOM}({name.text})")
            self.callee = False
            return
        text = name.text
        while (more := self._peek(1)) is not None and more.text == "@" and self._peek_kind(2) in ("name", "number"):
            text += "@" + self.lexemes[self.position + 2].text
            self.position += 2
        if self._next_is("?") or (self._next_is("!") and self._peek_text(2) != "="):
            self.position += 1
            text += self.lexemes[self.position].text
        if self._next_is(".") and self._peek_kind(2) == "name":
            module = _MODULES.get(text, text)  # in :pg2.create the atom is a module, not a value
            self.output.append(hidden(module) if module in ERLANG_MODULES else module)
        else:
            self.output.append(f'{_ATOM}("{text}")')
            self.callee = False

    # calls without parentheses: `Node.ping :plato`, `send pid, {:hello}`

    def _opens_bare_call(self, lexeme: _Lexeme) -> bool:
        last = self.last
        if lexeme.kind != "space" or not self.callee or self.brackets or self.in_bare_call or last is None:
            return False
        if last.kind != "name" or keyword.iskeyword(last.text) or not (self.dotted or last.text in _BARE_CALLS):
            return False
        if not self._begins_argument():
            return False
        self.callee, self.in_bare_call = False, True
        return True

    def _begins_argument(self) -> bool:
        first, second = self._peek(1), self._peek(2)
        if first is None:
            return False
        if first.kind == "name":
            return not keyword.iskeyword(first.text) or first.text in ("True", "False", "None", "lambda", "not")
        if first.kind in ("string", "number", "pid"):
            return True
        if second is None:
            return False
        if first.text == ":":
            return second.kind == "name" or _is_plain_string(second)
        return first.text == "{" or (first.text == "%" and second.text == "{")

    def _close_bare_call(self) -> None:
        if self.in_bare_call and not self.brackets:
            end = len(self.output)
            while end and not self.output[end - 1].strip():
                end -= 1
            self.output.insert(end, ")")
            self.in_bare_call = False

    # the lexemes around the current one

    def _last_is(self, text: str) -> bool:
        return self.last is not None and self.last.text == text

    def _last_ends_an_expression(self) -> bool:
        last = self.last
        if last is None:
            return False
        if last.kind == "name":
            return not keyword.iskeyword(last.text) or last.text in ("True", "False", "None")
        return last.kind in ("number", "string", "pid") or last.text in (")", "]", "}")

    def _peek(self, ahead: int) -> _Lexeme | None:
        position = self.position + ahead
        return self.lexemes[position] if position < len(self.lexemes) else None

    def _peek_kind(self, ahead: int) -> str:
        lexeme = self._peek(ahead)
        return "" if lexeme is None else lexeme.kind

    def _peek_text(self, ahead: int) -> str:
        lexeme = self._peek(ahead)
        return "" if lexeme is None else lexeme.text

    def _next_is(self, text: str) -> bool:
        return self._peek_text(1) == text


def _is_plain_string(lexeme: _Lexeme) -> bool:
    return lexeme.kind == "string" and lexeme.text[0] in "\"'" and not lexeme.text.startswith(('"""', "'''"))
