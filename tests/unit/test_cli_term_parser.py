"""Terms and groups, as they are typed on a command line."""

import pytest
from hypothesis import given

from erlmesh.cli.members import _spellings
from erlmesh.cli.term_parser import format_argument, parse_atom, parse_group, parse_term
from erlmesh.formatting import format_elixir, format_erlang
from erlmesh.terms import Atom, Map, exact_key
from terms_strategy import atoms, scalar_text


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("greeters", b"greeters"),
        (":greeters", Atom("greeters")),
        (':"my group"', Atom("my group")),
        ("'my group'", Atom("my group")),
        ("my group", b"my group"),
        ('"text"', b"text"),
        ('""', b""),
        ('<<"text">>', b"text"),
        ("<<1, 2>>", b"\x01\x02"),
        ("7", 7),
        ("-7", -7),
        ("7a", b"7a"),
        ("1.5", 1.5),
        ("true", b"true"),
        (":true", Atom("true")),
        ("{:room, 7}", (Atom("room"), 7)),
        ('{room, "lobby"}', (Atom("room"), b"lobby")),
        ("{}", ()),
        ("[1, [2]]", [1, [2]]),
        ("[a: 1]", [(Atom("a"), 1)]),
        ('%{a: 1, "b" => true}', Map([(Atom("a"), 1), (b"b", True)])),
        ("#{a => nil}", Map([(Atom("a"), Atom("nil"))])),
        ("Phoenix.PubSub", b"Phoenix.PubSub"),
        ("{Phoenix.PubSub, Elixir.A}", (Atom("Elixir.Phoenix.PubSub"), Atom("Elixir.A"))),
        (':"Elixir.Phoenix.PubSub"', Atom("Elixir.Phoenix.PubSub")),
    ],
)
def test_a_group_is_any_term_and_plain_text_is_a_binary(text, group):
    assert exact_key(parse_group(text)) == exact_key(group)


@pytest.mark.parametrize("text", ["", ":", "{:a", "{:a,}", '"x', "[1 2]", "<<300>>", "%{a}", ":a :b", "'x"])
def test_text_that_is_not_a_complete_term_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a term|needs a name"):
        parse_group(text)


@pytest.mark.parametrize("text", ["pg", ":pg", ':"pg"', "'pg'"])
def test_an_argument_that_is_always_an_atom_has_four_spellings(text):
    assert parse_atom(text) == "pg"


@pytest.mark.parametrize(
    ("group", "typed"),
    [
        (Atom("greeters"), ["greeters"]),
        (b"greeters", [":greeters"]),
        (b"Phoenix.PubSub", [':"Phoenix.PubSub"', ':"Elixir.Phoenix.PubSub"']),
        (Atom("7"), ['"7"']),
        (b"\xff", []),
        (b"", []),
        ((1,), []),
    ],
)
def test_the_other_spelling_of_a_group_can_be_typed(group, typed):
    assert [each for _, each, _ in _spellings(group)] == typed
    assert all(exact_key(parse_group(each)) == exact_key(other) for other, each, _ in _spellings(group))


@given(scalar_text)
def test_what_is_formatted_as_an_argument_is_parsed_as_the_same_group(text):
    assert parse_group(format_argument(text)) == text.encode()


@given(atoms)
def test_what_is_formatted_as_an_argument_is_parsed_as_the_same_atom(atom):
    assert parse_group(format_argument(atom)) is atom


@pytest.mark.parametrize("term", [(Atom("room"), 7, [b"x"]), [1.5, -3], Map([(Atom("a"), b"b")]), (Atom("it's"), ())])
def test_both_notations_that_terms_are_printed_in_can_be_typed(term):
    assert exact_key(parse_term(format_elixir(term))) == exact_key(term)
    assert exact_key(parse_term(format_erlang(term))) == exact_key(term)
