"""Types of Python's standard library ↔ terms: UUIDs, durations, paths, IP addresses, generics, and what is refused."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import IntFlag, StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from pathlib import PurePosixPath
from typing import Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar
from uuid import UUID

import pytest

from erlmesh import Atom, Map, Pid, from_term, to_term
from erlmesh.errors import EncodeError
from erlmesh.etf import decode, encode
from erlmesh.terms import BitString
from erlmesh.typed import ConvertError

T = TypeVar("T")
UserId = NewType("UserId", int)


class Point(NamedTuple):
    x: int
    label: str


class Options(TypedDict):
    limit: int


class Flags(IntFlag):
    READ = 1
    WRITE = 2


class Colour(StrEnum):
    RED = "red"


@dataclass
class Page(Generic[T]):
    items: list[T]
    next: int | None = None


@pytest.mark.parametrize(
    ("value", "type_", "term"),
    [
        (UUID(int=1), UUID, b"00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/tmp/\udcff"), PurePosixPath, b"/tmp/\xff"),
        (IPv4Address("127.0.0.1"), IPv4Address, (127, 0, 0, 1)),
        (IPv6Address("fe80::1:2"), IPv6Address, (0xFE80, 0, 0, 0, 0, 0, 1, 2)),
        (Decimal("-Infinity"), Decimal, None),
        (Decimal("-0.0"), Decimal, None),
        (timedelta(days=-1, microseconds=1), timedelta, None),
        (timedelta.max, timedelta, None),
        (timedelta.min, timedelta, None),
        ([timedelta(1), None], list[timedelta | None], None),
        (Colour.RED, Colour, b"red"),
        (Flags.READ | Flags.WRITE, Flags, 3),
        (UserId(7), UserId, 7),
        (Point(1, "a"), Point, (1, b"a")),
        ({"limit": 1}, Options, None),
        (Page([Page([UUID(int=2)])]), Page[Page[UUID]], None),
        ("a", Literal["a", "b"], b"a"),
        ({1: {2: [IPv4Address(1)]}}, dict[int, dict[int, list[IPv4Address]]], None),
    ],
)
def test_a_value_comes_back_as_its_type(value, type_, term):
    sent = decode(encode(to_term(value)))

    assert term is None or sent == term
    found = from_term(sent, type_)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("term", "type_", "value"),
    [
        (b"\0" * 15 + b"\1", UUID, UUID(int=1)),  # as Ecto.UUID.dump/1 makes it
        (b"127.0.0.1", IPv4Address, IPv4Address("127.0.0.1")),
        (b"P1DT2S", timedelta, timedelta(days=1, seconds=2)),
    ],
)
def test_another_form_of_the_same_value_is_read(term, type_, value):
    assert from_term(term, type_) == value


DURATION = Map({
    Atom("__struct__"): Atom("Elixir.Duration"),
    **{Atom(name): 0 for name in ("year", "month", "week", "day", "hour", "minute", "second")},
    Atom("microsecond"): (0, 0),
})  # fmt: skip


@pytest.mark.parametrize(
    ("term", "type_", "message"),
    [
        (b"nonsense", UUID, "Invalid UUID"),
        (b"\xff" * 36, UUID, "Invalid UUID"),
        ((127, 0, 0, 1), PurePosixPath, "invalid PurePosixPath: it is not a binary"),
        (7, UUID, "Expected `uuid`, got `int`"),
        ((1, 2, 3), IPv4Address, "invalid IPv4Address: it is not a tuple of 4 bytes or of 8 numbers"),
        ((1, 2, 3, 256), IPv4Address, "invalid IPv4Address: it is not a tuple of 4 bytes or of 8 numbers"),
        ((0,) * 8, IPv4Address, "invalid IPv4Address: "),
        ([b"300.0.0.1"], list[IPv4Address], r"invalid IPv4Address: .* - at `\$\[0\]`"),
        (5, PurePosixPath, "Expected `PurePosixPath`, got `int`"),
        (5, timedelta, "Expected `duration`, got `int`"),
        (Map({**DURATION, Atom("month"): 1}), timedelta, "it has years or months, which have no fixed length"),
        (Map({**DURATION, Atom("week"): 10**400}), timedelta, "invalid Duration: "),
        (Map({**DURATION, Atom("day"): 1.5}), timedelta, "its field day is not an integer"),
        (Map({**DURATION, Atom("microsecond"): 1}), timedelta, "its field microsecond is not"),
    ],
)
def test_a_term_that_is_no_such_value_is_refused(term, type_, message):
    with pytest.raises(ConvertError, match=message):
        from_term(term, type_)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [object()]}, r"builtins.object is not an Erlang term: send a dataclass, or terms - at `\$\['a'\]\[0\]`"),
        (ValueError("x"), "builtins.ValueError is not an Erlang term: send its text, or an ElixirException"),
        (deque([1]), r"collections.deque is not an Erlang term: send list\(value\)"),
        (iter([1]), r"list_iterator is not an Erlang term: send list\(value\)"),
        (1 + 2j, "builtins.complex is not an Erlang term: send a tuple of two floats"),
        (ip_network("10.0.0.0/8"), r"IPv4Network is not an Erlang term: send its text, str\(value\)"),
        (ip_interface("10.0.0.1/8"), r"IPv4Interface is not an Erlang term: send its text"),
        (IPv6Address("fe80::1%eth0"), r"an address of Erlang has no scope: send str\(address\)"),
        ([float("inf")], r"Erlang has no float inf: send an atom, or Decimal\('inf'\) .* - at `\$\[0\]`"),
        (float("nan"), "Erlang has no float nan"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_term_is_refused_with_advice(value, message):
    with pytest.raises(EncodeError, match=message):
        to_term(value)


@pytest.mark.parametrize("type_", [Iterable[int], Callable, complex, deque, Exception, type, "int"], ids=str)
def test_a_type_that_no_term_has_is_refused_at_once(type_):
    with pytest.raises(TypeError):
        from_term(1, type_)


def test_terms_pass_unchanged():
    pid = Pid(Atom("a@b"), 1, 2, 3)
    values = [pid, Atom("ok"), bytearray(b"x"), BitString(b"\x80", 1)]

    assert to_term(values) == values
    assert from_term(pid, object) is pid
