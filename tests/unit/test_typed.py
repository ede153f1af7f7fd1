"""Python's types ↔ Elixir's data, without a BEAM. ``tests/otp/test_typed_otp.py`` compares with Elixir itself."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from time import process_time
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec import field as msgspec_field

from erlmesh import Atom, ElixirException, Map, Pid, Ref, a, elixir_struct, from_term, to_term
from erlmesh.errors import EncodeError
from erlmesh.etf import decode, encode
from erlmesh.terms.elixir_exceptions import exception_line
from erlmesh.typed import AtomEnum, ConvertError, keyword_list

STRUCT = Atom("__struct__")
BERLIN = ZoneInfo("Europe/Berlin")
ItemT = TypeVar("ItemT")


class Side(AtomEnum):
    BUY = "buy"
    SELL = "sell"


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@elixir_struct("Shop.Line")
@dataclass
class Line:
    sku: str
    price: Decimal


@elixir_struct("Shop.Order", rest="rest")
@dataclass
class Order:
    id: int
    placed_at: datetime
    lines: list[Line]
    note: str | None = None
    rest: dict[Atom, Any] = field(default_factory=dict)


@dataclass
class Plain:
    name: str
    children: list[Plain]


class Deposit(Struct, tag_field="__struct__", tag="Elixir.Bank.Deposit"):
    amount: Annotated[int, Meta(gt=0)]


class Withdrawal(Struct, tag_field="__struct__", tag="Elixir.Bank.Withdrawal", forbid_unknown_fields=True):
    amount: int
    reason: Literal["cash", "card"] | None = None


class Point(NamedTuple):
    x: int
    y: int


NAIVE = datetime(1, 1, 1)  # noqa: DTZ001 - without a time zone
PID = Pid(Atom("a@h"), 1, 0, 1)


def over_the_wire(value: object) -> Any:
    """Return the term that a peer gets for a value."""
    return decode(encode(to_term(value)))


ROUND_TRIPS: list[tuple[object, Any]] = [
    (None, type(None)),
    (None, str | None),
    ("text", str | None),
    ("ü", str),
    (b"\xff\x00", bytes),
    (True, bool),
    (7, int | str),
    ("7", int | str),
    (1.5, float),
    (Atom("nil"), Atom),
    (PID, Pid),
    (Ref(Atom("a@h"), 1, (1, 2, 3)), Ref | None),
    (datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC), datetime),
    (datetime(2024, 7, 1, 12, tzinfo=BERLIN), datetime),
    (datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN), datetime),
    (NAIVE, datetime),
    (NAIVE.replace(year=9999), datetime | None),
    (date(2024, 1, 1), date),
    (time(1, 2, 3, 4), time),
    (Decimal("-1.50"), Decimal),
    (Decimal("-0"), Decimal),
    (Decimal("1E+30"), Decimal),
    (Decimal("-Infinity"), Decimal),
    (frozenset({"a", "b"}), frozenset[str]),
    ({1, 2}, set[int]),
    (range(3), range),
    (range(10, 0, -3), range),
    (range(0), range),
    (range(5, 2), range),
    ({"a": [1]}, dict[str, list[int]]),
    ((1, "x"), tuple[int, str]),
    ((1, 2, 3), tuple[int, ...]),
    (Point(1, 2), Point),
    (Side.SELL, Side),
    (Colour.RED, Colour),
    (Level.HIGH, Level),
    (Order(1, datetime(2024, 1, 1, tzinfo=UTC), [Line("x", Decimal("9.99"))], "n"), Order),
    (Plain("a", [Plain("b", [])]), Plain),
    ([Deposit(5), Withdrawal(1, "cash"), Withdrawal(2)], list[Deposit | Withdrawal]),
    ({Atom("k"): 1}, dict[Atom, int]),
]


@pytest.mark.parametrize(
    ("value", "type_"), ROUND_TRIPS, ids=lambda value: str(getattr(value, "__name__", type(value).__name__))
)
def test_a_value_comes_back(value, type_):
    found = from_term(over_the_wire(value), type_)

    assert found == value
    assert type(found) is type(value)
    if isinstance(value, datetime):
        assert (found.utcoffset(), found.fold) == (value.utcoffset(), value.fold)
    if isinstance(value, Decimal):
        assert found.as_tuple() == value.as_tuple()


@given(st.datetimes(timezones=st.none() | st.just(UTC) | st.just(BERLIN), allow_imaginary=False))
def test_any_moment_comes_back(value):
    assert from_term(over_the_wire(value), datetime) == value


@given(st.decimals(allow_nan=False))
def test_any_decimal_comes_back(value):
    assert from_term(over_the_wire(value), Decimal).as_tuple() == value.as_tuple()


def test_nan_comes_back():
    assert from_term(over_the_wire(Decimal("NaN")), Decimal).is_nan()


def test_an_offset_without_a_name_is_sent_in_utc():
    value = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2, minutes=30)))

    found = from_term(over_the_wire(value), datetime)

    assert found == value
    assert found.tzinfo is UTC


def test_a_time_zone_that_this_machine_does_not_know_keeps_its_offset():
    term = to_term(datetime(2024, 7, 1, 12, tzinfo=BERLIN))
    for name in (b"Nowhere/Nothing", b"../../etc/passwd", b"\xff", b"", b"UTC" * 1000):
        found = from_term(Map({**term, Atom("time_zone"): name}), datetime)
        assert found == datetime(2024, 7, 1, 12, tzinfo=BERLIN)
    moved = from_term(Map({**term, Atom("utc_offset"): 7_200}), datetime)  # other rules than here
    assert moved.utcoffset() == timedelta(hours=3)


MISFITS: list[tuple[Any, Any, str]] = [
    ((1, 2), list[int], "Expected `list`, got `tuple`"),
    ([1, b"x"], list[int], r"Expected `int`, got `bytes` - at `\$\[1\]`"),
    (Map({a.x: b"\xff"}), dict[str, str], "not UTF-8"),
    (Atom("q"), str, "Expected `str`"),
    (b"aGk=", list[bytes], "Expected `list`"),
    ([(a.k, 1), (a.k, 2)], dict[str, int], "has the key k more than once"),
    (Map({STRUCT: Atom("Elixir.Nope")}), Order, "Expected `Shop.Order`, got `Nope`"),
    (Map({STRUCT: Atom("Elixir.Shop.Line"), a.sku: b"x"}), Line, "missing required field `price`"),
    (b"x", int, "Expected `int`, got `bytes`"),
    (5, Atom, "Expected `Atom`, got `int`"),
    (5, range, "Expected `range`"),
    (b"x", ElixirException, "Expected `ElixirException`"),
    (Map({**to_term(Withdrawal(1)), a.x: 1}), Withdrawal, "unknown"),
    (to_term(Deposit(-1)), Deposit, r"Expected `int` >= 1 - at `\$.amount`"),
    (Map({**to_term(date(2024, 1, 1)), a.year: 0}), date, "its year is 0"),
    (Map({**to_term(date(2024, 1, 1)), a.month: 13}), date, "month must be in 1..12"),
    (Map({**to_term(date(2024, 1, 1)), a.calendar: Atom("Elixir.Other")}), date, "not Calendar.ISO"),
    (Map({**to_term(time(1)), a.microsecond: 5}), time, "microsecond"),
    (Map({**to_term(Decimal(1)), a.exp: 10**9}), Decimal, "more than 4000 digits"),
    (Map({**to_term(Decimal(1)), a.coef: 1 << 14_000}), Decimal, "more than 4000 digits"),
    (Map({**to_term(Decimal(1)), a.sign: 0}), Decimal, "sign"),
    (Map({**to_term(range(3)), a.step: 0}), range, "step"),
    (Map({STRUCT: Atom("Elixir.MapSet"), a.map: []}), set[int], "its field map is not a map"),
    ((1, 2, 3), tuple[int, int], "Expected a tuple of 2 elements, got 3"),
    (a.blue, Colour, "Invalid enum value 'blue'"),
    (Map({(1, 2): 3}), Plain, "Expected atoms or strings as keys"),
    ([1], Plain, "Expected a map or a keyword list"),
]


@pytest.mark.parametrize(("term", "type_", "message"), MISFITS, ids=lambda value: str(type(value).__name__))
def test_a_term_that_does_not_fit_is_refused_with_the_path(term, type_, message):
    with pytest.raises(ConvertError, match=message):
        from_term(term, type_)


def test_a_deep_term_is_refused():
    term: Any = Map({a.name: b"", a.children: []})
    for _ in range(5_000):
        term = Map({a.name: b"", a.children: [term]})

    with pytest.raises(ConvertError, match="too deeply"):
        from_term(term, Plain)


def test_unknown_fields_are_kept_where_the_class_says_so():
    term = Map({**to_term(Order(1, NAIVE, [])), a.discount: 5})

    order = from_term(term, Order)

    assert order.rest == {a.discount: 5}
    assert to_term(order) == term


def test_a_keyword_list_is_a_mapping_where_the_type_says_so():
    options = decode(encode(keyword_list({"limit": 5, "since": date(2024, 1, 1)})))

    assert options[0] == (a.limit, 5)
    assert from_term(options, dict[str, Any])["limit"] == 5
    assert from_term([(a.name, b"x"), (a.children, [])], Plain) == Plain("x", [])
    assert from_term([], dict[str, int]) == {}


def test_text_becomes_what_the_type_says():
    assert from_term(b"2024-01-01", date) == date(2024, 1, 1)
    assert from_term(b"1.5", Decimal) == Decimal("1.5")
    assert from_term(b"123e4567-e89b-12d3-a456-426614174000", UUID) == UUID("123e4567-e89b-12d3-a456-426614174000")


def test_a_struct_without_its_own_class_is_any_mapping():
    assert from_term(Map({b"name": b"x", b"children": []}), Plain) == Plain("x", [])
    assert from_term(Map({STRUCT: Atom("Elixir.Tree"), a.name: b"x", a.children: []}), Plain) == Plain("x", [])


REFUSED = [
    (time(1, tzinfo=UTC), "no time with a time zone"),
    (Decimal("sNaN"), "signalling"),
    ([1, {"k": time(1, tzinfo=UTC)}], r"at `\$\[1\]\['k'\]`"),
    (np.array([object()]), "array of Python objects"),
]


@pytest.mark.parametrize(
    ("value", "message"), REFUSED, ids=lambda value: str(value if isinstance(value, str) else type(value).__name__)
)
def test_a_value_that_elixir_does_not_have_is_refused(value, message):
    with pytest.raises(EncodeError, match=message):
        to_term(value)


def test_a_list_that_contains_itself_is_refused():
    cycle: list[Any] = []
    cycle.append(cycle)

    with pytest.raises(EncodeError, match="contains itself"):
        to_term(cycle)


def test_numpy_values_are_sent():
    array = np.arange(6, dtype="<u2").reshape(2, 3)

    assert over_the_wire([np.float32(1.5), np.int8(-3), np.bool_(True)]) == [1.5, -3, True]
    assert over_the_wire(array) == array.tobytes()
    assert over_the_wire(array.T) == array.T.tobytes()
    assert over_the_wire(array[:0]) == b""
    view = to_term(array)
    assert np.shares_memory(np.frombuffer(view, "<u2"), array)  # no copy
    assert np.array_equal(np.frombuffer(over_the_wire(array), "<u2").reshape(2, 3), array)


def exception(module, /, **fields):
    names = {Atom(name): value for name, value in fields.items()}
    return Map({STRUCT: Atom(f"Elixir.{module}"), Atom("__exception__"): True, **names})


@pytest.mark.parametrize(
    ("term", "line"),
    [
        (exception("ArgumentError", message=b"bad\nthing"), "** (ArgumentError) bad thing"),
        (exception("KeyError", key=a.k, term=Map(), message=a.nil), "** (KeyError) key :k not found in: %{}"),
        (exception("Shop.Empty", sku=b"x", message=a.nil), '** (Shop.Empty) sku: "x"'),
        (exception("BadMapError", term=[1]), "** (BadMapError) expected a map, got: [1]"),
        (
            exception("UndefinedFunctionError", module=Atom("Elixir.X"), function=a.f, arity=1, message=a.nil),
            "** (UndefinedFunctionError) function X.f/1 is undefined",
        ),
    ],
    ids=repr,
)
def test_an_exception_is_one_line(term, line):
    assert exception_line(term) == line
    found = from_term(term, ElixirException)
    assert str(found) == line
    assert found.module == line[4:].partition(")")[0]
    assert to_term(found) == term


def test_atoms_stand_in_patterns_and_as_keys():
    match (Atom("ok"), Map({a.id: 5})):
        case (a.ok, {a.id: int(number)}):
            assert number == 5
        case _:
            pytest.fail("no match")
    assert a.ok is Atom("ok")
    assert a["Elixir.Shop"] is Atom("Elixir.Shop")
    with pytest.raises(AttributeError):
        _ = a.__wrapped__


def test_a_type_that_cannot_be_converted_to_raises_type_error():
    with pytest.raises(TypeError):
        from_term(1, Line | Order)


# What callers' types may have besides plain fields


class RenamedOrder(Struct, rename="camel"):
    placed_by: str
    note: str | UnsetType = UNSET


@elixir_struct("Shop.Order", rest="other_fields")
class RenamedRest(Struct, rename="camel"):
    placed_by: str
    other_fields: dict[Atom, object] = msgspec_field(default_factory=dict)


class Cat(Struct, tag=True):
    name: int


class Dog(Struct, tag=True):
    name: str


@dataclass
class WithClassVariable:
    limit: ClassVar[int] = 5
    number: int = 1


@elixir_struct("Shop.Box")
@dataclass
class Box(Generic[ItemT]):
    item: ItemT


class Flag(AtomEnum):
    YES = "true"
    NO = "false"


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (RenamedOrder("Ada"), RenamedOrder),
        (RenamedOrder("Ada", "x"), RenamedOrder),
        (RenamedRest("Ada", {Atom("id"): 7}), RenamedRest),
        (Dog("Rex"), Cat | Dog),
        (WithClassVariable(), WithClassVariable),
        (Box([1]), Box[list[int]]),
        (Flag.YES, Flag),
        (Flag.NO, Flag | None),
        (range(10**30), range),
    ],
)
def test_a_value_comes_back_as_it_was(value, type_):
    assert from_term(decode(encode(to_term(value))), type_) == value


def test_a_renamed_field_has_its_other_name_in_the_term():
    assert to_term(RenamedOrder("Ada")) == Map({Atom("placedBy"): "Ada"})


def test_only_fields_of_a_dataclass_are_sent():
    assert to_term(WithClassVariable()) == Map({Atom("number"): 1})


def test_the_tag_of_a_union_may_be_an_atom():
    term = Map({Atom("type"): Atom("Dog"), Atom("name"): b"Rex"})
    assert from_term(term, Cat | Dog) == Dog("Rex")


def test_an_empty_list_is_an_empty_keyword_list_in_a_union():
    assert from_term([], dict[str, int] | None) == {}
    assert from_term([], WithClassVariable | None) == WithClassVariable()
    assert from_term([], list[int] | dict[str, int]) == []


@pytest.mark.parametrize(
    ("term", "type_", "message"),
    [
        ([1], Literal["a", None], "Expected `str | null`"),  # noqa: PYI061 - msgspec reads it as one type
        (Map([([1], 2)]), dict[Any, int], "Expected a hashable key, got `list`"),
        (Map([(1, 2), (1.0, 3)]), dict[Any, int], "two keys that become 1.0"),
        (Map([(Atom("x"), 2), (b"x", 3)]), dict[str, int], "two keys that become x"),
        (Map([(Atom("number"), 2), (b"number", 3)]), WithClassVariable, "two keys that become number"),
        (Map({Atom("__struct__"): Atom("Elixir.Other"), Atom("item"): 1}), Box[int], r"Expected `Shop\.Box`"),
        (True, Literal[1], "Expected `int`"),
    ],
)
def test_a_term_that_does_not_fit_is_refused(term, type_, message):
    with pytest.raises(ConvertError, match=message):
        from_term(term, type_)


def seconds_to_find_the_repeated_key(count):
    """The processor time of the quickest of five attempts: a garbage collection may fall into one of them."""
    atoms = [Atom(f"key{number}") for number in range(count)]
    options = [(atom, 1) for atom in [*atoms, atoms[-1]]]
    times = []
    for _ in range(5):
        started = process_time()
        with pytest.raises(ConvertError, match="more than once"):
            from_term(options, dict)
        times.append(process_time() - started)
    return min(times)


def test_looking_for_a_repeated_key_is_linear_work():
    short, long = seconds_to_find_the_repeated_key(1_000), seconds_to_find_the_repeated_key(4_000)

    assert long < 0.05 or long < 9 * short  # A product of the keys takes 0.3 seconds, and 16 times as long.
