"""What others have said, on its way into the log: short, printable, and never an error."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh.terms import Atom, Map, Pid, node_numbers
from erlmesh.terms.foreign_text import MAX_LENGTH, ForeignText, foreign_text, printable
from terms_strategy import terms


def deep(levels):
    term = []
    for _ in range(levels):
        term = [term]
    return term


class Hostile(Exception):
    def __str__(self):
        raise SystemExit(1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plato", "plato"),
        ("a\nb\x1b[2J\x9b\x7f", "a\\nb\\x1b[2J\\x9b\\x7f"),
        ("a\u202eb\u2028c\u200fd", "a\\u202eb\\u2028c\\u200fd"),
        ((Atom("ok"), 1, 2.5, True), "{ok,1,2.5,true}"),
        ([b"x\n", "y"], "[b'x\\n','y']"),
        (Map({Atom("a"): 1}), "#{a => 1}"),
        (Atom("a\nb"), "a\\nb"),
        ([], "[]"),
        (1 << 100_000, "<integer of 100001 bits>"),
        (ValueError("no\rgood"), "ValueError: no\\rgood"),
        (Hostile(), "Hostile: (its text cannot be made)"),
    ],
    ids=range(11),
)
def test_a_value_has_a_printable_text(value, text):
    assert foreign_text(value) == text


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000_000,
        [1] * 10_000_000,
        deep(1_000_000),
        b"x" * 10_000_000,
        {number: number for number in range(100_000)},
        ValueError("y" * 10_000_000),
        Atom("\x1b" * 255),
    ],
    ids=range(7),
)
def test_a_large_value_is_cut(value):
    text = foreign_text(value)

    assert text.endswith("…")
    assert len(text) <= MAX_LENGTH + 1


def test_printing_a_pid_stores_nothing():
    before = len(node_numbers._nodes)

    text = foreign_text([Pid(Atom(f"never{number}@seen"), number, 0, 1) for number in range(3)])

    assert text == "[<never0@seen 0.0>,<never1@seen 1.0>,<never2@seen 2.0>]"
    assert len(node_numbers._nodes) == before


def test_a_term_of_any_depth_can_be_logged(caplog):
    logging.getLogger("erlmesh").warning("unknown: %r", ForeignText(deep(100_000)))

    assert "unknown: [[[" in caplog.text


@given(st.one_of(terms, st.text(), st.binary()))
def test_any_value_gives_one_short_printable_line(value):
    text = foreign_text(value)

    assert text.isprintable()
    assert len(text) <= MAX_LENGTH + 1
    assert printable(text) == text
