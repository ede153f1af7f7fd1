"""io_lib:format. The expected lines were printed by OTP 25."""

import pytest

from erlmesh.services.io_format import MAX_TEXT, BadFormat, TextBudget, chardata_to_str, format_text, print_chardata
from erlmesh.terms import Atom, ImproperList, Map
from erlmesh.terms.printing import ERLANG_FORMATTERS


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("plain ~~ ~n", [], "plain ~ \n"),
        ("~p ~w", ["text", b"text"], '<<"text">> <<116,101,120,116>>'),
        ("~p ~w", [list(b"text"), list(b"text")], '"text" [116,101,120,116]'),
        ("~tp ~tw", [Atom("ä b"), Map([(1, [])])], "'ä b' #{1 => []}"),
        ("~s ~ts ~s", ["bin", [228, ["x", b"y"]], Atom("atom")], "bin äxy atom"),
        ("~10s|~-10s|~.2s|~5.2s", ["abc"] * 4, "       abc|abc       |ab|   ab"),
        ("~2s", ["abc"], "ab"),
        ("~5.5.0w", [5], "00005"),
        ("~3.*.0B", [10, 7], "007"),
        ("~*w", [5, 1], "    1"),
        ("~B ~.16B ~.16b ~.16# ~.2+", [255, 255, -255, 255, 5], "255 FF -ff 16#FF 2#101"),
        ("~.16X ~.16x", [255, "0x", -255, "0x"], "0xFF -0xff"),
        ("~c~c~3c", [104, 105, 33], "hi!!!"),
        ("~f ~.2f ~e ~.3e ~g", [1.5, 1.005, 1.5, 1.5, 1.5], "1.500000 1.00 1.50000e+0 1.50e+0 1.50000"),
        ("~W ~P", [[1, 2], 9, [1, 2], 9], "[1,2] [1,2]"),
        ("a~ib", [Atom("ignored")], "ab"),
        (b"binary ~p", [1], "binary 1"),
        (Atom("atom ~p"), [1], "atom 1"),
        (list(b"list ~p"), [1], "list 1"),
        ("~p", [True], "true"),
        ("~s", [True], "true"),
    ],
)
def test_formats_like_otp(text, arguments, expected):
    assert format_text(text, arguments) == expected


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("~p", []),
        ("", [1]),
        ("~q", [1]),
        ("~", []),
        ("~s", [5.0]),
        ("~B", [1.0]),
        ("~f", [1]),
        ("~.37B", [1]),
        ("~f", ["x"]),
        ("~c", ["x"]),
        ("~p", 1),
    ],
)
def test_arguments_that_do_not_fit_raise(text, arguments):
    with pytest.raises(BadFormat):
        format_text(text, arguments)


def test_excessive_widths_are_limited():
    assert len(format_text("~99999999999w", [1])) == 10_000
    assert len(format_text("~99999999999n", [])) == 10_000


def test_chardata_may_be_nested_deeply():
    deep = []
    for _ in range(100_000):
        deep = [deep, 120]

    assert chardata_to_str(deep) == "x" * 100_000
    assert chardata_to_str(ImproperList((97,), b"b")) == "ab"
    with pytest.raises(BadFormat):
        chardata_to_str([0xD800])


def test_the_fields_of_a_text_are_limited_together():
    text = format_text(b"~9999c" * 1000, [120] * 1000)

    assert len(text) == MAX_TEXT + 3
    assert text.endswith("x...")


@pytest.mark.parametrize("directive", ["~p", "~w", "~tp"])
@pytest.mark.parametrize("term", [bytes(1000), [[bytes(100)] * 100], "é" * 1000, Map([(1, list(range(1000)))])])
def test_a_term_that_is_longer_than_the_limit_is_cut(directive, term):
    text = format_text(f"{directive}|", [term], TextBudget(300))
    whole = format_text(f"{directive}|", [term])

    assert len(text) <= 303
    assert text == whole or text == whole[:300] + "..."


def test_a_text_as_long_as_the_limit_is_whole():
    assert format_text("a~pb~s", [12, "xyz"], TextBudget(7)) == "a12bxyz"
    assert format_text("a~pb~s", [12, "xyz"], TextBudget(6)) == "a12bxy..."


def test_the_limit_stops_the_work(monkeypatch):
    made = []
    monkeypatch.setitem(ERLANG_FORMATTERS, int, lambda number: made.append(number) or str(number))
    format_text("~p", [list(range(100_000))], TextBudget(100))

    assert len(made) < 101


@pytest.mark.parametrize("chardata", [b"x" * 40, [120] * 40, [b"x"] * 40, [[120] * 20, 120, "x" * 40], "xéx" * 40])
def test_chardata_is_cut_before_it_is_formatted(chardata):
    whole = chardata_to_str(chardata)

    assert len(chardata_to_str(chardata, budget=TextBudget(30))) == 31
    assert print_chardata(chardata, "utf-8", TextBudget(30)) == whole[:30] + "..."
    assert print_chardata(chardata, "utf-8", TextBudget(len(whole))) == whole
    assert format_text(chardata, [], TextBudget(30)) == whole[:30] + "..."
    assert format_text("~ts", [chardata], TextBudget(30)) == whole[:30] + "..."


def test_a_long_list_of_other_things_is_not_text():
    for items in ([True] * 40, [1.5] * 40, [0xD800] * 40, [-1] * 40, [1 << 70] * 40):
        with pytest.raises(BadFormat):
            chardata_to_str(items)


def test_a_long_list_of_small_parts_takes_a_limited_number_of_steps():
    budget = TextBudget(steps=100)

    assert print_chardata([b""] * 300 + [b"x"], "utf-8", budget) == "..."
    assert budget.steps == 0
    assert print_chardata([b"x"], "utf-8", budget) == "..."


def test_a_format_has_a_limited_number_of_directives():
    assert format_text("~n~~" * 1000, [], TextBudget(steps=5)) == "\n~\n..."  # the format itself is a step


def test_the_end_of_a_format_that_is_cut_within_a_directive_is_dropped():
    assert format_text("ab~ccd~99999c", [120, 121], TextBudget(7)) == "abxcd..."
