"""The printed form of terms. Tests in tests/otp compare it with OTP and Elixir."""

from enum import IntEnum

import pytest

from erlmesh.formatting import claim_local, format_elixir, format_erlang, release_local
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref

HERE = Atom("socrates@127.0.0.1")
PID = Pid(HERE, 64, 0, 1)


@pytest.fixture(autouse=True)
def _local_node():
    assert claim_local(HERE)
    yield
    release_local(HERE)


class Colour(IntEnum):
    RED = 1


class Unknown:
    def __repr__(self):
        return "<unknown>"


CASES = [
    # term, Erlang, Elixir
    (Atom("ok"), "ok", ":ok"),
    (Atom("a b"), "'a b'", ':"a b"'),
    (HERE, "'socrates@127.0.0.1'", ':"socrates@127.0.0.1"'),
    (Atom(""), "''", ':""'),
    (Atom("end"), "'end'", ":end"),
    (Atom("it's\n\x01\x85\\"), "'it\\'s\\n\\001\\205\\\\'", ':"it\'s\\n\\x01\\x85\\\\"'),
    (Atom("élan"), "'élan'".strip("'"), ":élan"),
    (Atom("привет"), "'привет'", ":привет"),
    (Atom("привет!"), "'привет!'", ":привет!"),
    (Atom("a\u0301b"), "'a\u0301b'", ':"a\u0301b"'),
    (Atom("Foo"), "'Foo'", ":Foo"),
    (Atom("Elixir"), "'Elixir'", "Elixir"),
    (Atom("Elixir.Foo.Bar"), "'Elixir.Foo.Bar'", "Foo.Bar"),
    (Atom("Elixir.foo"), "'Elixir.foo'", ':"Elixir.foo"'),
    (Atom("Elixir.Elixir.Foo"), "'Elixir.Elixir.Foo'", "Elixir.Elixir.Foo"),
    (Atom("ok?"), "'ok?'", ":ok?"),
    (Atom("+"), "'+'", ":+"),
    (Atom("nil"), "nil", "nil"),
    (True, "true", "true"),
    (False, "false", "false"),
    (1, "1", "1"),
    (-5, "-5", "-5"),
    (Colour.RED, "1", "1"),
    (2**4200, f"16#1{'0' * 1050}", f"0x1{'0' * 1050}"),
    (-(2**4200), f"-16#1{'0' * 1050}", f"-0x1{'0' * 1050}"),
    (1.5, "1.5", "1.5"),
    (0.0, "0.0", "0.0"),
    (-0.0, "-0.0", "-0.0"),
    (100000.0, "1.0e5", "100000.0"),
    (1e22, "1.0e22", "1.0e22"),
    (1e16, "1.0e16", "1.0e16"),
    (123456.0, "123456.0", "123456.0"),
    (1.25e-7, "1.25e-7", "1.25e-7"),
    (0.001, "0.001", "0.001"),
    (5e-324, "5.0e-324", "5.0e-324"),
    (9007199254740994.0, "9.007199254740994e15", "9007199254740994.0"),
    (b"", "<<>>", '""'),
    (b"text", '<<"text">>', '"text"'),
    ("text", '<<"text">>', '"text"'),
    (bytearray(b"text"), '<<"text">>', '"text"'),
    (memoryview(b"text"), '<<"text">>', '"text"'),
    ('say "#{x}"\n\\', '<<"say \\"#{x}\\"\\n\\\\">>', '"say \\"\\#{x}\\"\\n\\\\"'),
    ("é", '<<"é"/utf8>>', '"é"'),
    ("привет", "<<208,191,209,128,208,184,208,178,208,181,209,130>>", '"привет"'),
    (b"\xe9", '<<"é">>', "<<233>>"),
    ("\u0378", "<<205,184>>", '"\u0378"'),
    (b"\x01\xff", "<<1,255>>", "<<1, 255>>"),
    (BitString(b"\xa0", 3), "<<5:3>>", "<<5::size(3)>>"),
    (BitString(b"a\xa0", 3), "<<97,5:3>>", "<<97, 5::size(3)>>"),
    ([], "[]", "[]"),
    ([97, 98], '"ab"', "'ab'"),
    ([97, 0], "[97,0]", "[97, 0]"),
    ([233], '"é"', "[233]"),
    ([97, 1000], "[97,1000]", "[97, 1000]"),
    ([True, 97], "[true,97]", "[true, 97]"),
    ([39, 35, 123], "\"'#{\"", "'\\'\\#{'"),
    ((), "{}", "{}"),
    ((Atom("ok"), PID), "{ok,<0.64.0>}", "{:ok, #PID<0.64.0>}"),
    ([(Atom("a"), 1), (Atom("b c"), 2), (True, 3)], "[{a,1},{'b c',2},{true,3}]", '[a: 1, "b c": 2, true: 3]'),
    ([(Atom("Elixir.Foo"), 1)], "[{'Elixir.Foo',1}]", "[{Foo, 1}]"),
    (ImproperList((1, 2), 3), "[1,2|3]", "[1, 2 | 3]"),
    (Map(), "#{}", "%{}"),
    ({Atom("a"): 1}, "#{a => 1}", "%{a: 1}"),
    (Map({Atom("a"): 1, "k": [Map()]}), '#{a => 1,<<"k">> => [#{}]}', '%{:a => 1, "k" => [%{}]}'),
    (Map({Atom("__struct__"): Atom("Elixir.Foo"), Atom("a"): 1}),
     "#{'__struct__' => 'Elixir.Foo',a => 1}", "%Foo{a: 1}"),
    (Map({Atom("__struct__"): 1}), "#{'__struct__' => 1}", "%{__struct__: 1}"),
    (Port(HERE, 5, 1), "#Port<0.5>", "#Port<0.5>"),
    (Ref(HERE, 1, (1, 2, 3)), "#Ref<0.3.2.1>", "#Reference<0.3.2.1>"),
    (Export(Atom("lists"), Atom("map"), 2), "fun lists:map/2", "&:lists.map/2"),
    (Export(Atom("Elixir.Foo"), Atom("a b"), 2), "fun 'Elixir.Foo':'a b'/2", '&Foo."a b"/2'),
    (Export(Atom("erlang"), Atom("+"), 2), "fun erlang:'+'/2", "&:erlang.+/2"),
    (Export(Atom("end"), Atom("a@b"), 0), "fun end:'a@b'/0", '&:end."a@b"/0'),
    (Fun(1, bytes(16), 3, Atom("m"), 0, 123, PID), "#Fun<m.0.123>", "#Function<3.123/1 in :m>"),
    (Unknown(), "<unknown>", "<unknown>"),
    ([None], "[None]", "[None]"),
    ("\ud800", '<<"\\\\ud800">>', '"\\\\ud800"'),
]  # fmt: skip


@pytest.mark.parametrize(("term", "in_erlang", "in_elixir"), CASES, ids=[case[1][:20] for case in CASES])
def test_a_term_prints_as_in_erlang_and_elixir(term, in_erlang, in_elixir):
    assert format_erlang(term) == in_erlang
    assert format_elixir(term) == in_elixir


def test_a_value_that_contains_itself_prints_with_dots():
    endless, pairs = [1], {}
    endless.append((endless,))
    pairs[2] = pairs

    assert format_erlang(endless) == "[1,{...}]"
    assert format_elixir((pairs,)) == "{%{2 => ...}}"


def test_a_list_that_occurs_several_times_prints_each_time():
    part = [300]

    assert format_erlang([part, (part,), part]) == "[[300],{[300]},[300]]"


def test_a_very_deep_term_prints():
    deep = 1
    for _ in range(200_000):
        deep = (deep,)

    assert format_erlang(deep) == "{" * 200_000 + "1" + "}" * 200_000
    assert len(format_elixir(deep)) == 400_001
