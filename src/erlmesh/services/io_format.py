"""``io_lib:format/2`` for text that other nodes print here.

One difference from OTP: ``~p`` does not break lines, because there is no terminal width to fit.

Source: io_lib_format.erl and the documentation of ``io:fwrite/3``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from erlmesh.terms import Atom, BitString, ImproperList, Term
from erlmesh.terms.erlang import format_erlang
from erlmesh.terms.foreign_text import ForeignText
from erlmesh.terms.printing import ERLANG_FORMATTERS, Formatters, Text, format_term, joined

__all__ = ["MAX_TEXT", "BadFormat", "TextBudget", "chardata_to_str", "format_text", "print_chardata"]

# ~F.P.PadModC: width, precision, pad character, modifiers, control character.
# It is compiled at the first use, as most nodes never print.
_DIRECTIVE: Final = r"~(-?\d+|\*)?(?:\.(\d+|\*)?)?(?:\.(\*|.))?([tlkK]*)([~cfegswpWPbBxX#+ni])"
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_POWERS_OF_TWO: Final = {2: "b", 8: "o", 16: "x"}
_MAX_BITS: Final = 4096
"""Bits of the longest number that is printed in another base than these three."""
MAX_WIDTH: Final = 10_000
"""Limit of a field's width and of repeated characters."""
MAX_TEXT: Final = 1 << 20
"""Limit of the characters that one request prints. A short format can have many wide fields."""
MAX_STEPS: Final = 300_000
"""Limit of the directives of one request, and of the binaries, lists and single characters in its chardata."""
_MIN_RUN: Final = 16
"""Characters of a list from which on it is worth to look whether it has nothing else."""
_CUT: Final = "..."


class BadFormat(ValueError):
    """The arguments do not fit the format (``badarg``)."""


class TextBudget:
    """What the texts of one request may still cost: it bounds the memory and the time that a remote format can use."""

    __slots__ = ("characters", "steps")

    def __init__(self, characters: int = MAX_TEXT, steps: int = MAX_STEPS) -> None:
        self.characters = characters
        self.steps = steps

    def add(self, out: list[str], text: str) -> bool:
        """Append as much of ``text`` as may still be printed. Return False if this is the end of all text."""
        out.append(text[: self.characters])
        fits = len(text) <= self.characters and self.steps > 0
        self.characters = self.characters - len(text) if fits else 0
        return fits


def format_text(text: Term, arguments: Term, budget: TextBudget | None = None) -> str:
    """Format ``arguments`` as the format ``text`` says. Raises :class:`BadFormat`.

    When the budget is spent, the text ends with ``...``.
    """
    if not isinstance(arguments, list):
        raise BadFormat("the arguments are not a list")
    budget = budget or TextBudget()
    remaining = iter(arguments)
    out: list[str] = []
    format_ = text.name if isinstance(text, Atom) else chardata_to_str(text, budget=budget)
    is_whole = len(format_) <= budget.characters and budget.steps > 0
    position = 0
    for match in re.finditer(_DIRECTIVE, format_, re.DOTALL):
        literal = format_[position : match.start()]
        if "~" in literal:
            break  # A directive that is not valid. It is reported below.
        budget.steps -= 1
        if not budget.add(out, literal) or not budget.add(out, _format_directive(match, remaining, budget)):
            return "".join([*out, _CUT])
        position = match.end()
    rest = format_[position:]
    if not is_whole:  # The last directive may be incomplete.
        budget.add(out, rest.partition("~")[0])
        return "".join([*out, _CUT])
    if "~" in rest or next(remaining, remaining) is not remaining:
        raise BadFormat(f"{format_!r} does not fit its {len(arguments)} arguments")
    return "".join(out if budget.add(out, rest) else [*out, _CUT])


def print_chardata(chardata: Term, encoding: str, budget: TextBudget) -> str:
    """Return the text to print, which ends with ``...`` when the budget is spent. Raises :class:`BadFormat`."""
    out: list[str] = []
    return "".join(out if budget.add(out, chardata_to_str(chardata, encoding, budget)) else [*out, _CUT])


def chardata_to_str(chardata: Term, encoding: str = "utf-8", budget: TextBudget | None = None) -> str:
    """Convert Erlang's ``unicode:chardata()`` to text: binaries in ``encoding`` and code points, in lists of any
    depth.

    Bytes that cannot be decoded are escaped. Raises :class:`BadFormat` for another term. It stops at one character more
    than the budget has, or when no steps are left, and takes only steps from the budget.
    """
    if isinstance(chardata, int):
        raise BadFormat(f"{chardata!r} is a character, not text")
    budget = budget or TextBudget()
    left = budget.characters + 1
    out: list[str] = []
    pending = [chardata]
    while pending and left > 0 and budget.steps > 0:
        item = pending.pop()
        budget.steps -= 1
        if isinstance(item, (bytes, str)):
            octets = item[:left].encode("utf-8", "backslashreplace") if isinstance(item, str) else item
            # A character has at most four bytes. What the cut makes of the last one is beyond the limit.
            text = octets[: 4 * left].decode(encoding, "backslashreplace")[:left]
        elif type(item) is int and 0 <= item < 0x110000 and not 0xD800 <= item < 0xE000:
            text = chr(item)
        elif isinstance(item, list):
            run = _characters(item[:left]) if len(item) >= _MIN_RUN else None
            if run is None:
                pending.extend(reversed(item))
                continue
            text = run
        elif isinstance(item, ImproperList):
            pending += (item.tail, *reversed(item.elements))
            continue
        else:
            raise BadFormat(f"{ForeignText(item)} is not text")
        out.append(text)
        left -= len(text)
    return "".join(out)


def _characters(items: list[Term]) -> str | None:
    """Return the text of a list that contains only characters, without Python code for each. None for another list."""
    if {*map(type, items)} != {int}:
        return None
    try:
        text = "".join(map(chr, items))
        text.encode()
    except (ValueError, OverflowError):  # a number that is no character, or a surrogate
        return None
    return text


def _format_directive(match: re.Match[str], arguments: Iterator[Any], budget: TextBudget) -> str:
    """Format one directive with its arguments. A term is not continued far beyond the characters of the budget."""
    width, precision = _parse_number(match[1], arguments), _parse_number(match[2], arguments)
    pad = match[3] or " "
    if pad == "*":
        pad = chr(_next_argument(arguments, int))
    kind = match[5]
    if kind == "n":
        return "\n" * max(1, min(width or 1, MAX_WIDTH))
    if kind == "~":
        return "~"
    if kind == "i":
        _next_argument(arguments)
        return ""
    if kind == "c":
        count = min(precision or abs(width or 1), MAX_WIDTH)
        return _pad_field(chr(_next_argument(arguments, int)) * count, width, None, pad, is_text=False)
    if kind in "pP":  # Its width is the line length for line breaks, which are not made here.
        return _format_value(match[4], kind, arguments, precision, budget)
    value = _format_value(match[4], kind, arguments, precision, budget)
    return _pad_field(value, width, precision, pad, is_text=kind == "s")


def _format_value(
    modifiers: str, kind: str, arguments: Iterator[Any], precision: int | None, budget: TextBudget
) -> str:
    """Format one argument without padding."""
    term = _next_argument(arguments)
    if kind == "s":
        if isinstance(term, (Atom, bool)):
            return format_erlang(term).strip("'") if isinstance(term, bool) else term.name
        return chardata_to_str(term, "utf-8" if "t" in modifiers else "latin-1", budget)
    if kind in "pPwW":
        notation = ERLANG_FORMATTERS if kind in "pP" and "l" not in modifiers else _WRITE_NOTATION
        text = format_term(term, notation, budget.characters)
    elif kind in "feg":
        text = _format_float(kind, term, 6 if precision is None else min(precision, 300))
    else:
        text = _format_integer(kind, term, precision or 10, arguments, budget)
    if kind in "WP":
        _next_argument(arguments)  # The depth limit is ignored.
    return text


def _format_float(kind: str, term: Term, precision: int) -> str:
    """``~f``, ``~e`` and ``~g``."""
    if not isinstance(term, float):
        raise BadFormat(f"{term!r} is not a float")
    size = abs(term)
    if kind == "f":
        return _fixed_point(term, precision)
    if kind == "g" and 0.1 <= size < 10000:
        whole = -1 if size < 1 else len(str(int(size))) - 1
        return _format_float("f", term, max(precision - 1 - whole, 1))
    mantissa, _, exponent = f"{term:.{max(precision - 1, 1)}e}".partition("e")
    return f"{mantissa}e{int(exponent):+d}"


def _fixed_point(number: float, precision: int) -> str:
    from decimal import ROUND_HALF_UP, Context, Decimal  # noqa: PLC0415 - few nodes print floats; it is slow to import

    enough = Context(prec=1000)  # digits to format any float without rounding twice
    return f"{Decimal(number).quantize(Decimal(1).scaleb(-precision), ROUND_HALF_UP, enough):f}"


def _format_integer(kind: str, term: Term, base: int, arguments: Iterator[Any], budget: TextBudget) -> str:
    """``~b``, ``~x``, ``~#`` and ``~+`` in any base from 2 to 36; upper case for ``~B``, ``~X`` and ``~#``."""
    if type(term) is not int or not 2 <= base <= 36:
        raise BadFormat(f"{term!r} is not an integer, or {base} is not a base")
    prefix = ""
    if kind in "xX":
        leader = _next_argument(arguments)
        prefix = leader.name if isinstance(leader, Atom) else chardata_to_str(leader, budget=budget)
    elif kind in "#+":
        prefix = f"{base}#"
    digits = _to_base(abs(term), base)
    return ("-" if term < 0 else "") + prefix + (digits.upper() if kind in "BX#" else digits)


def _to_base(number: int, base: int) -> str:
    """Format a number that is not negative. The time is linear: large numbers in most bases are given in base 16."""
    if base in _POWERS_OF_TWO:
        return format(number, _POWERS_OF_TWO[base])
    if number.bit_length() > _MAX_BITS:  # it would take quadratic time
        return f"16#{number:x}"
    if base == 10:
        return str(number)
    digits = [_DIGITS[number % base]]
    while number := number // base:
        digits.append(_DIGITS[number % base])
    return "".join(reversed(digits))


def _pad_field(text: str, width: int | None, precision: int | None, pad: str, *, is_text: bool) -> str:
    """Pad or cut to ``width``. Text that is too long is cut; other output becomes stars, as in OTP."""
    if is_text and precision is not None:
        text = text[:precision].ljust(min(precision, MAX_WIDTH), pad)
    if width is None:
        return text
    size = min(abs(width), MAX_WIDTH)
    if len(text) > size:
        return text[:size] if is_text else "*" * size
    return text.ljust(size, pad) if width < 0 else text.rjust(size, pad)


def _parse_number(text: str | None, arguments: Iterator[Any]) -> int | None:
    """A width or precision; ``*`` takes it from the arguments."""
    if not text:
        return None
    return _next_argument(arguments, int) if text == "*" else int(text)


def _next_argument(arguments: Iterator[Any], kind: type = object) -> Any:
    """The next argument. Raises :class:`BadFormat` if there is none or if it has the wrong type."""
    value = next(arguments, arguments)
    if (
        value is arguments
        or not isinstance(value, kind)
        or (isinstance(value, int) and kind is int and not -MAX_WIDTH <= value < 0x110000)
    ):
        raise BadFormat("too few arguments, or one of the wrong type")
    return value


_COMMA: Final = Text(",")
_WRITE_NOTATION: Formatters = {}
"""The notation of ``~w``: lists and binaries are never shown as text."""


def _write_binary(data: bytes | str) -> str:
    octets = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else bytes(data)
    return f"<<{','.join(map(str, octets))}>>"


def _write_bits(bits: BitString) -> str:
    return format_erlang(bits)


_WRITE_NOTATION.update(ERLANG_FORMATTERS)
_WRITE_NOTATION.update(
    {
        str: _write_binary,
        bytes: _write_binary,
        list: lambda term: joined("[", term, _COMMA, "]"),
        BitString: _write_bits,
    }
)
