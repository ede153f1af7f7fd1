"""Python's types ↔ the data that Elixir itself makes, from Elixir 1.14 and 1.20."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from erlmesh import Atom, ElixirException, elixir_struct, from_term, to_term
from erlmesh.etf import decode, encode
from erlmesh.typed import keyword_list
from test_gen_server_otp import COMPILE
from test_system_messages_otp import elixir_path

pytestmark = [pytest.mark.timeout(120), pytest.mark.otps(25, 29)]
ELIXIR = b"""
defmodule Shop.Order do
  defstruct [:id, :customer, :placed_at, note: nil, tags: MapSet.new()]
end
defmodule Decimal do
  defstruct [sign: 1, coef: 0, exp: 0]
end
defmodule :samples do
  def eval(text), do: text |> Code.eval_string() |> elem(0)
  def holds(text, value), do: text |> Code.eval_string(x: value) |> elem(0)
  def fails(text) do
    Code.eval_string(text)
  rescue
    exception -> exception
  end
end
"""


@elixir_struct("Shop.Order")
@dataclass
class Order:
    id: int
    customer: str
    placed_at: datetime
    note: str | None = None
    tags: frozenset[str] = frozenset()


START = datetime(2024, 1, 1, tzinfo=UTC)
NAIVE = datetime(2024, 1, 1)  # noqa: DTZ001 - without a time zone
FROM_ELIXIR: list[tuple[str, Any, object]] = [
    ("~U[2024-02-29 23:59:59.123456Z]", datetime, datetime(2024, 2, 29, 23, 59, 59, 123_456, tzinfo=UTC)),
    ("~U[2024-02-29 23:59:59Z]", datetime, datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)),
    ("~N[2024-01-01 00:00:00.5]", datetime, NAIVE.replace(microsecond=500_000)),
    ("~D[2024-01-01]", date, date(2024, 1, 1)),
    ("~T[23:00:07.001]", time, time(23, 0, 7, 1_000)),
    ("MapSet.new([1, 2])", frozenset[int], frozenset({1, 2})),
    ("10..1//-3", range, range(10, 0, -3)),
    ("[limit: 5, offset: nil]", dict[str, int | None], {"limit": 5, "offset": None}),
    ('%{name: "x"}', dict[str, str], {"name": "x"}),
    ("elem(:inet.parse_address(~c[10.0.0.7]), 1)", IPv4Address, ip_address("10.0.0.7")),
    ("elem(:inet.parse_address(~c[fe80::1]), 1)", IPv6Address, ip_address("fe80::1")),
    ('Path.join("/tmp", "x")', PurePosixPath, PurePosixPath("/tmp/x")),
    ("nil", str | None, None),
    ('"\u00fc"', str | None, "ü"),
    ("%Decimal{sign: -1, coef: 150, exp: -2}", Decimal, Decimal("-1.50")),
    (
        '%Shop.Order{id: 1, customer: "c", placed_at: ~U[2024-01-01 00:00:00Z], tags: MapSet.new(["new"])}',
        Order,
        Order(1, "c", datetime(2024, 1, 1, tzinfo=UTC), None, frozenset({"new"})),
    ),
]
TO_ELIXIR: list[tuple[object, str]] = [
    (datetime(2024, 2, 29, 23, 59, 59, 5, tzinfo=UTC), "x == ~U[2024-02-29 23:59:59.000005Z]"),
    (datetime(2024, 1, 1, tzinfo=UTC), "DateTime.compare(x, ~U[2024-01-01 00:00:00Z]) == :eq"),
    (datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
     'DateTime.to_iso8601(x) == "2024-07-01T12:00:00.000000+02:00" and x.zone_abbr == "CEST"'),
    (NAIVE.replace(hour=1), "x == ~N[2024-01-01 01:00:00.000000]"),
    (date(2024, 1, 1), "x == ~D[2024-01-01]"),
    (time(1, 2, 3, 4), "x == ~T[01:02:03.000004]"),
    (frozenset({1, 2}), "MapSet.equal?(x, MapSet.new([1, 2])) and MapSet.member?(MapSet.put(x, 3), 3)"),
    (range(0, 10, 3), "Enum.to_list(x) == [0, 3, 6, 9]"),
    (range(0), "Enum.to_list(x) == []"),
    (keyword_list({"limit": 5}), "x == [limit: 5]"),
    (Decimal("-1.50"), "x == %Decimal{sign: -1, coef: 150, exp: -2}"),
    (UUID(int=1), 'x == "00000000-0000-0000-0000-000000000001"'),
    (PurePosixPath("/tmp/\u00fc"), 'Path.basename(x) == "\u00fc"'),
    (ip_address("10.0.0.7"), ":inet.ntoa(x) == ~c[10.0.0.7]"),
    (ip_address("fe80::1"), ":inet.ntoa(x) == ~c[fe80::1]"),
    (None, "x == nil"),
    (Order(1, "c", datetime(2024, 1, 1, tzinfo=UTC)), '%Shop.Order{id: 1, customer: "c", note: nil} = x; true'),
]  # fmt: skip


@pytest.fixture
def elixir(cluster, otp):
    beam = cluster.beam("plato", otp=otp, arguments=elixir_path(otp))
    beam.eval(COMPILE, Source=ELIXIR)
    return beam


def test_what_elixir_makes_arrives_as_the_python_type(elixir):
    for text, type_, expected in FROM_ELIXIR:
        found = from_term(elixir.eval("samples:eval(Text__)", Text__=text.encode()), type_)
        assert found == expected, text
        assert type(found) is type(expected), text


def test_what_python_sends_is_equal_in_elixir(elixir):
    for value, condition in TO_ELIXIR:
        term = decode(encode(to_term(value)))
        assert elixir.eval("samples:holds(Text__, X__)", Text__=condition.encode(), X__=term) is True, condition


def test_a_duration_of_elixir_is_a_timedelta(elixir):
    if elixir.eval("code:which('Elixir.Duration')") is Atom("non_existing"):  # before Elixir 1.17
        assert elixir.eval("code:which('Elixir.Date')") is not Atom("non_existing")
        return
    term = elixir.eval('samples:eval(<<"Duration.new!(week: -1, day: 2, minute: 3, microsecond: {-5, 6})">>)')
    assert from_term(term, timedelta) == timedelta(weeks=-1, days=2, minutes=3, microseconds=-5)
    for value in (timedelta(days=1, microseconds=7), timedelta(seconds=-1.5), timedelta()):
        moved = f"DateTime.shift(~U[2024-01-01 00:00:00.000000Z], x) == ~U[{START + value:%Y-%m-%d %H:%M:%S.%f}Z]"
        term = decode(encode(to_term(value)))
        assert elixir.eval("samples:holds(Text__, X__)", Text__=moved.encode(), X__=term) is True, value
        assert elixir.eval('samples:holds(<<"x == Duration.add(Duration.new!([]), x)">>, X__)', X__=term) is True


def test_an_exception_reads_as_in_elixir(elixir):
    for text in ('raise "boom"', "Map.fetch!(%{}, :a)", 'String.to_integer("x")', "{:ok, _} = :error",
                 "Shop.nothing(1)", "%{nil | a: 1}"):  # fmt: skip
        term = elixir.eval("samples:fails(Text__)", Text__=text.encode())
        message = elixir.eval("'Elixir.Exception':message(E__)", E__=term).decode()
        found = from_term(term, ElixirException)
        first_line = message.splitlines()[0].split(" (module")[0]
        assert first_line in str(found), (text, message, str(found))


def test_an_error_of_a_remote_call_reads_as_in_elixir(cluster, elixir):
    python = cluster.pynode("socrates")
    python.ping(elixir.name)

    with pytest.raises(AssertionError, match=r"failed: \*\* \(ArgumentError\) no!"):
        python.eval("await node.rpc(PEER, 'samples', 'eval', [b'raise ArgumentError, \"no!\"'])", PEER=elixir.name)


def test_the_atoms_of_elixir_are_attributes(elixir):
    assert elixir.eval('samples:eval(<<"{:ok, nil}">>)') == (Atom("ok"), Atom("nil"))
