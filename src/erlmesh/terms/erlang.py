"""Erlang's notation of terms, as ``io:format("~0tp", [Term])`` writes them in a shell started without flags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from erlmesh.terms.atoms import Atom
from erlmesh.terms.maps import Map
from erlmesh.terms.node_numbers import node_number
from erlmesh.terms.printing import ERLANG_FORMATTERS, Text, format_term, joined
from erlmesh.terms.values import BitString, Export, Fun, ImproperList, Pid, Port, Ref, Term

__all__ = ["dotted", "float_digits", "format_erlang", "reference_words"]

_RESERVED: Final = frozenset({
    "after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case", "catch", "cond", "div",
    "end", "fun", "if", "let", "not", "of", "or", "orelse", "receive", "rem", "try", "when", "xor",
})  # fmt: skip
# Patterns are compiled at the first use: `re` keeps them.
_BARE_ATOM: Final = r"[a-zß-öø-ÿ][a-zA-Z0-9_@À-ÖØ-öø-ÿ]*\Z"
_BARE_NAME: Final = r"[a-zß-öø-ÿ][a-zA-Z0-9_À-ÖØ-öø-ÿ]*\Z"
_PRINTABLE: Final = r"[\b\t\n\v\f\r\x1b -~\xa0-\xff]*\Z"  # Latin-1, io:printable_range()'s default
_ESCAPES: Final = {8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 27: "\\e", 92: "\\\\", 127: "\\d"}
_CONTROLS: Final = {code: f"\\{code:03o}" for code in (*range(32), *range(128, 160))} | _ESCAPES
_MAX_DECIMAL_BITS: Final = 4096  # Python refuses to write much longer integers in decimal: it takes quadratic time
_COMMA: Final = Text(",")
_ARROW: Final = Text(" => ")


def format_erlang(term: Term) -> str:
    """Return the term as Erlang prints it, on one line: ``{ok,<0.64.0>,#{<<"k">> => [1|2]}}``.

    The term may be nested to any depth. An integer of more than 4096 bits is written in base 16 (``16#FF…``), which
    Erlang can read.
    """
    return format_term(term, ERLANG_FORMATTERS)


def quoted(text: str, quote: str) -> str:
    return f"{quote}{text.translate(_CONTROLS | {ord(quote): chr(92) + quote})}{quote}"


def format_atom(name: str) -> str:
    return name if re.match(_BARE_ATOM, name) and name not in _RESERVED else quoted(name, "'")


def format_fun_name(name: str) -> str:
    """Write a name after ``fun``. The emulator prints it: its rules have no reserved words and do not allow ``@``."""
    return name if re.match(_BARE_NAME, name) else quoted(name, "'")


def format_integer(number: int) -> str:
    if number.bit_length() <= _MAX_DECIMAL_BITS:
        return str(int(number))
    return f"{'-' if number < 0 else ''}16#{abs(number):X}"


def float_digits(number: float) -> str:
    """Return the shortest digits that read back as ``number``, in the form of ``float_to_list(Number, [short])``."""
    sign = "-" if str(number)[0] == "-" else ""
    mantissa, _, exponent = f"{abs(number)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return sign + "0.0"
    if abs(number) >= 1 << 53:  # from here on OTP always uses the exponent form
        return sign + _scientific(digits, point - 1)
    return sign + _plain_or_scientific(digits, point)


def _plain_or_scientific(digits: str, point: int) -> str:
    """Return the shorter of the two forms, the plain one if both have the same length.

    ``point`` is the position of the decimal point in ``digits``.
    """
    count = len(digits)
    if 0 < point < count:
        return f"{digits[:point]}.{digits[point:]}"
    plain = f"0.{'0' * -point}{digits}" if point <= 0 else f"{digits}{'0' * (point - count)}.0"
    scientific = _scientific(digits, point - 1)
    return plain if len(plain) <= len(scientific) else scientific


def _scientific(digits: str, exponent: int) -> str:
    return f"{digits[0]}.{digits[1:] or '0'}e{exponent}"


def format_binary(data: bytes) -> str:
    if not data:
        return "<<>>"
    try:
        text = data.decode()
    except UnicodeDecodeError:  # like io_lib, take binaries that are not UTF-8 for Latin-1
        text = data.decode("latin-1")
    if re.match(_PRINTABLE, text):
        return f"<<{quoted(text, chr(34))}{'/utf8' if len(text) != len(data) else ''}>>"
    return f"<<{','.join(map(str, data))}>>"


def format_bitstring(bits: BitString) -> str:
    last = f"{bits.data[-1] >> (8 - bits.bits)}:{bits.bits}"
    return f"<<{','.join([*map(str, bits.data[:-1]), last])}>>"


def _list(term: list[Term]) -> str | list[Any]:
    if not term:
        return "[]"
    if all(type(element) is int and 8 <= element <= 255 for element in term):
        text = bytes(term).decode("latin-1")
        if re.match(_PRINTABLE, text):
            return quoted(text, '"')
    return joined("[", term, _COMMA, "]")


def _improper(term: ImproperList) -> list[Any]:
    pieces = joined("[", term.elements, _COMMA, "]")
    pieces[-1:] = (Text("|"), term.tail, Text("]"))
    return pieces


def _map(term: Iterable[Term]) -> list[Any]:
    pieces: list[Any] = []
    for key, value in Map(term).items():
        pieces += (_COMMA, key, _ARROW, value)
    return [Text("#{"), *pieces[1:], Text("}")]


def dotted(identifier: Pid | Port | Ref, *numbers: int) -> str:
    """Return the numbers between the angle brackets of an identifier; the number of its node comes first."""
    return ".".join(map(str, (node_number(identifier.node), *numbers)))


def reference_words(ref: Ref) -> tuple[int, ...]:
    return ref.words[::-1]


ERLANG_FORMATTERS.update(
    {
        bool: lambda truth: "true" if truth else "false",
        int: format_integer,
        float: float_digits,
        str: lambda text: format_binary(text.encode("utf-8", "backslashreplace")),
        bytes: format_binary,
        bytearray: lambda data: format_binary(bytes(data)),
        memoryview: lambda data: format_binary(bytes(data)),
        tuple: lambda term: joined("{", term, _COMMA, "}"),
        list: _list,
        dict: _map,
        Map: _map,
        Atom: lambda term: format_atom(term.name),
        ImproperList: _improper,
        BitString: format_bitstring,
        Pid: lambda pid: f"<{dotted(pid, pid.id, pid.serial)}>",
        Port: lambda port: f"#Port<{dotted(port, port.id)}>",
        Ref: lambda ref: f"#Ref<{dotted(ref, *reference_words(ref))}>",
        Export: lambda fun: f"fun {format_fun_name(fun.module.name)}:{format_fun_name(fun.function.name)}/{fun.arity}",
        Fun: lambda fun: f"#Fun<{fun.module.name}.{fun.old_index}.{fun.old_uniq}>",
    }
)
