"""Elixir's notation of terms, as ``inspect(term, limit: :infinity)`` writes them on one line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any, Final

from erlmesh.terms.atoms import Atom
from erlmesh.terms.erlang import dotted, float_digits, reference_words
from erlmesh.terms.maps import Map
from erlmesh.terms.printing import Formatters, Text, format_term, joined
from erlmesh.terms.values import BitString, Export, Fun, ImproperList, Pid, Port, Ref, Term

__all__ = ["format_elixir"]

_CALLABLE_OPERATORS: Final = frozenset({
    "!", "!=", "!==", "&", "&&", "&&&", "*", "**", "+", "++", "+++", "-", "--", "---", "/", "<", "<-", "<<<", "<<~",
    "<=", "<>", "<~", "<~>", "=", "==", "===", "=~", ">", ">=", ">>>", "@", "\\\\", "^", "|", "|>", "||", "|||", "~>",
    "~>>",
})  # fmt: skip
_OPERATORS: Final = _CALLABLE_OPERATORS | {"..", "..//", "%", "%{}", "{}", "<<>>", "...", ".", "->"}
_ALIAS: Final = re.compile(r"Elixir\.([A-Z][a-zA-Z0-9_]*(?:\.[A-Z][a-zA-Z0-9_]*)*)\Z")
_ASCII_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_@]*[?!]?\Z")
_CALL: Final = re.compile(r"[^\WA-Z0-9][^\W@]*[?!]?\Z")
_ESCAPES: Final = {
    0: "\\0", 7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 27: "\\e", 92: "\\\\",
    127: "\\d",
}  # fmt: skip
_MAX_DECIMAL_BITS: Final = 4096  # longer integers are written in base 16, as in erlang.py
_COMMA: Final = Text(", ")
_ARROW: Final = Text(" => ")
_STRUCT: Final = Atom("__struct__")


def format_elixir(term: Term) -> str:
    """Return the term as iex shows it, on one line: ``{:ok, #PID<0.64.0>, %{"k" => [1 | 2]}}``.

    The term may be nested to any depth. A charlist prints in single quotes, as iex does until 1.14. Every struct
    prints as ``%Name{field: value}``; a module's own ``Inspect`` implementation is not known here.
    """
    return format_term(term, _ELIXIR_FORMATTERS)


def _escaped(text: str, quote: str) -> str:
    return "".join([_character(character, quote) for character in text]).replace("#{", "\\#{")


def _character(character: str, quote: str) -> str:
    code = ord(character)
    if character == quote:
        return "\\" + quote
    if code in _ESCAPES:
        return _ESCAPES[code]
    if _is_printable(code):
        return character
    return f"\\x{code:02X}" if code < 0x100 else f"\\x{{{code:X}}}"


def _is_printable(code: int) -> bool:
    """Return whether ``String.printable?/1`` accepts the code point."""
    return (
        0x20 <= code <= 0x7E
        or 0xA0 <= code <= 0xD7FF
        or 0xE000 <= code <= 0xFFFD
        or 0x10000 <= code <= 0x10FFFF
        or (code in _ESCAPES and code not in (0, 92))  # not NUL; the backslash is already in the first range
    )


def _is_bare(name: str) -> bool:
    if name.isascii():
        return bool(_ASCII_NAME.match(name)) or name in _OPERATORS
    # Elixir's tokenizer takes Unicode identifiers in NFKC form, with "@" inside and at most one trailing "?" or "!".
    word = name.rstrip("?!") if name[-1] in "?!" else name
    return (
        len(name) - len(word) <= 1
        and word.replace("@", "_").isidentifier()
        and word[0] != "@"
        and unicodedata.is_normalized("NFKC", word)
    )


def _atom(name: str) -> str:
    if name in ("nil", "true", "false"):
        return name
    alias = _ALIAS.match(name)
    if alias:  # Elixir.Foo prints as Foo, but Elixir.Elixir.Foo keeps its full name
        return name if re.match(r"Elixir(\.|\Z)", alias[1]) else alias[1]
    if name == "Elixir":
        return name
    return f":{name}" if _is_bare(name) else f':"{_escaped(name, chr(34))}"'


def _key(name: str) -> str:
    return f"{name}: " if _is_bare(name) else f'"{_escaped(name, chr(34))}": '


def _integer(number: int) -> str:
    if number.bit_length() <= _MAX_DECIMAL_BITS:
        return str(int(number))
    return f"{'-' if number < 0 else ''}0x{abs(number):X}"


def _float(number: float) -> str:
    """Write a float as Erlang does, except that whole numbers below 10¹⁶ are written without an exponent."""
    return f"{int(number)}.0" if 1 <= abs(number) < 1e16 and number.is_integer() else float_digits(number)


def _binary(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and all(_is_printable(ord(character)) or character == "\\" for character in text):
        return f'"{_escaped(text, chr(34))}"'
    return f"<<{', '.join(map(str, data))}>>"


def _bitstring(bits: BitString) -> str:
    last = f"{bits.data[-1] >> (8 - bits.bits)}::size({bits.bits})"
    return f"<<{', '.join([*map(str, bits.data[:-1]), last])}>>"


def _is_ascii_printable(term: list[Term]) -> bool:
    return all(type(code) is int and (32 <= code <= 126 or 7 <= code <= 13 or code == 27) for code in term)


def _is_keyword(pair: Term) -> bool:
    return (
        isinstance(pair, tuple)
        and len(pair) == 2
        and (isinstance(pair[0], bool) or (type(pair[0]) is Atom and not pair[0].name.startswith("Elixir.")))
    )


def _list(term: list[Term]) -> str | list[Any]:
    if not term:
        return "[]"
    if _is_ascii_printable(term):
        return f"'{_escaped(bytes(term).decode(), chr(39))}'"
    if all(map(_is_keyword, term)):
        return _bracketed("[", _keywords(term), "]")
    return joined("[", term, _COMMA, "]")


def _bracketed(opening: str, pieces: list[Any], closing: str) -> list[Any]:
    return [Text(opening), *pieces[1:], Text(closing)]


def _keywords(pairs: Iterable[tuple[Term, Term]]) -> list[Any]:
    pieces: list[Any] = []
    for key, value in pairs:
        name = str(key).lower() if isinstance(key, bool) else key.name
        pieces += (_COMMA, Text(_key(name)), value)
    return pieces


def _improper(term: ImproperList) -> list[Any]:
    pieces = joined("[", term.elements, _COMMA, "]")
    pieces[-1:] = (Text(" | "), term.tail, Text("]"))
    return pieces


def _map(term: Iterable[Term]) -> list[Any]:
    pairs = list(Map(term).items())
    name = next((value for key, value in pairs if key is _STRUCT), None)
    opening = "%{"
    # A map is a struct if __struct__ is the name of an Elixir module.
    if type(name) is Atom and _ALIAS.match(name.name):
        opening = f"%{_atom(name.name)}{{"
        pairs = [(key, value) for key, value in pairs if key is not _STRUCT]
    if all(map(_is_keyword, pairs)):
        return _bracketed(opening, _keywords(pairs), "}")
    pieces: list[Any] = []
    for key, value in pairs:
        pieces += (_COMMA, key, _ARROW, value)
    return _bracketed(opening, pieces, "}")


def _export(fun: Export) -> str:
    name = fun.function.name
    shown = (
        name
        if name in _CALLABLE_OPERATORS or name == "::" or (_is_bare(name) and _CALL.match(name))
        else f'"{_escaped(name, chr(34))}"'
    )
    return f"&{_atom(fun.module.name)}.{shown}/{fun.arity}"


_ELIXIR_FORMATTERS: Final[Formatters] = {
    bool: lambda truth: "true" if truth else "false",
    int: _integer,
    float: _float,
    str: lambda text: _binary(text.encode("utf-8", "backslashreplace")),
    bytes: _binary,
    bytearray: lambda data: _binary(bytes(data)),
    memoryview: lambda data: _binary(bytes(data)),
    tuple: lambda term: joined("{", term, _COMMA, "}"),
    list: _list,
    dict: _map,
    Map: _map,
    Atom: lambda term: _atom(term.name),
    ImproperList: _improper,
    BitString: _bitstring,
    Pid: lambda pid: f"#PID<{dotted(pid, pid.id, pid.serial)}>",
    Port: lambda port: f"#Port<{dotted(port, port.id)}>",
    Ref: lambda ref: f"#Reference<{dotted(ref, *reference_words(ref))}>",
    Export: _export,
    Fun: lambda fun: f"#Function<{fun.index}.{fun.old_uniq}/{fun.arity} in {_atom(fun.module.name)}>",
}
