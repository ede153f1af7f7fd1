"""Compares the codec, the notations and the order with a real Erlang (and Elixir), with random terms both ways."""

import json
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from erlmesh.errors import DecodeError
from erlmesh.etf import decode, encode
from erlmesh.formatting import claim_local, format_elixir, format_erlang, release_local
from erlmesh.terms import Atom, Export, Fun, ImproperList, Map, Pid, Port, Ref, exact_key, sort_key
from skips import skip_or_fail
from terms_strategy import atoms, floats, has_negative_zero, integers, leaves, pids, refs, scalar_text, terms

pytestmark = pytest.mark.otp

ORACLE = r"""
Release = list_to_integer(erlang:system_info(otp_release)),
Print = fun(Format, T) -> unicode:characters_to_binary(io_lib:format(Format, [T])) end,
Answer = fun
    ({release}) -> term_to_binary(Release);
    ({echo, B}) -> term_to_binary(binary_to_term(B), [{minor_version, 2}]);
    ({echo1, B}) -> term_to_binary(binary_to_term(B), [{minor_version, 1}]);
    ({compress, B}) -> term_to_binary(binary_to_term(B), [compressed]);
    ({print, B}) -> Print("~0tp", binary_to_term(B));
    ({inspect, B}) ->
        'Elixir.Kernel':inspect(binary_to_term(B), [{limit, infinity}, {printable_limit, infinity}, {width, infinity}]);
    ({float, F}) -> list_to_binary(float_to_list(F, [short]));
    ({sort, B}) -> term_to_binary(lists:sort(binary_to_term(B)));
    ({same, A, B}) -> term_to_binary(binary_to_term(A) =:= binary_to_term(B));
    ({pair, A, B}) ->
        {X, Y} = {binary_to_term(A), binary_to_term(B)},
        term_to_binary(if X < Y -> lt; X > Y -> gt; true -> eq end)
end,
Port = open_port({fd, 0, 1}, [{packet, 4}, binary, eof]),
Serve = fun Serve() ->
    receive
        {Port, {data, Request}} ->
            Reply = try {ok, Answer(binary_to_term(Request))} catch error:Reason -> {error, Reason} end,
            port_command(Port, term_to_binary(Reply)),
            Serve();
        {Port, eof} -> halt(0)
    end
end,
Serve().
"""


class Oracle:
    """One Erlang at the other end of a pipe. Requests are length-prefixed terms."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *request):
        data = encode((Atom(request[0]), *request[1:]))
        self.process.stdin.write(struct.pack(">I", len(data)) + data)
        self.process.stdin.flush()
        (length,) = struct.unpack(">I", self.process.stdout.read(4))
        return decode(self.process.stdout.read(length))

    def __call__(self, *request):
        outcome, answer = self.ask(*request)
        assert outcome == Atom("ok"), f"Erlang refuses {request}: {answer}"
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def release(oracle):
    return decode(oracle("release"))


@pytest.fixture(scope="module")
def oracle():
    erl = shutil.which("erl")
    if erl is None:
        skip_or_fail("Erlang is not installed")
    oracle = Oracle([erl, "-noinput", "-boot", "start_clean", "-eval", ORACLE])
    try:
        if release(oracle) < 25:
            pytest.skip("before OTP 25 identifiers are shorter, and floats print otherwise")
        yield oracle
    finally:
        oracle.close()


@pytest.fixture(scope="module")
def elixir_oracle():
    erl, elixirc = shutil.which("erl"), shutil.which("elixir")
    if erl is None or elixirc is None:
        skip_or_fail("Elixir is not installed")
    command = [elixirc, "-e", "IO.write(:code.lib_dir(:elixir))"]
    library = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    start = "{ok, _} = application:ensure_all_started(elixir),"
    oracle = Oracle([erl, "-noinput", "-boot", "start_clean", "-pa", f"{library}/ebin", "-eval", start + ORACLE])
    try:
        yield oracle
    finally:
        oracle.close()


VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "otp25.json").read_text())
HERE = Atom("nonode@nohost")
asked_often = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def is_kept(oracle, term):
    """Whether this OTP keeps all of the term. Since 29 it replaces the creator of a fun by itself."""
    return release(oracle) < 29 or not has_fun(term)


def has_fun(term):
    match term:
        case Fun():
            return True
        case tuple() | list():
            return any(map(has_fun, term))
        case ImproperList():
            return any(map(has_fun, (*term.elements, term.tail)))
        case Map():
            return any(has_fun(part) for pair in term.items() for part in pair)
    return False


def returned(oracle, term):
    """The term after Erlang has read and written it. Its maps are then in Erlang's order."""
    return decode(oracle("echo", encode(term)))


@given(term=terms)
@asked_often
def test_a_term_is_unchanged_after_a_round_trip_through_erlang(oracle, term):
    assume(is_kept(oracle, term))

    assert exact_key(returned(oracle, term)) == exact_key(term)


@given(term=terms)
@asked_often
def test_a_term_from_erlang_is_encoded_as_in_erlang(oracle, term):
    """Compares a term that came from Erlang, because the order of maps can differ otherwise."""
    if release(oracle) > 25:
        pytest.skip("later releases write every port with 64 bits")
    data = oracle("echo", encode(term))

    assert encode(decode(data)) == data


@given(term=terms)
@asked_often
def test_latin1_atoms_and_compressed_terms_are_decoded(oracle, term):
    assume(is_kept(oracle, term))

    assert exact_key(decode(oracle("echo1", encode(term)))) == exact_key(term)
    assert exact_key(decode(oracle("compress", encode([term] * 20)))) == exact_key([term] * 20)


@pytest.mark.parametrize("length", [65534, 65535, 65536])
def test_strings_near_the_greatest_length_are_encoded_as_in_erlang(oracle, length):
    assert oracle("echo", encode([7] * length)) == encode([7] * length)


@pytest.mark.parametrize("vector", VECTORS["etf_decoded_by_otp25"], ids=lambda vector: vector["name"])
def test_this_otp_accepts_and_refuses_the_same_bytes(oracle, vector):
    if release(oracle) > 26 and vector["name"] == "dec_bits_len0":
        pytest.skip("OTP 27 is stricter here")
    data = bytes.fromhex(vector["hex"])
    try:
        term = decode(data)
    except DecodeError:
        assert oracle.ask("echo", data)[0] == Atom("error")
    else:
        assert exact_key(decode(oracle("echo", data))) == exact_key(term)


@given(term=terms, data=st.data())
@asked_often
def test_changed_bytes_that_erlang_accepts_decode_to_the_same_term(oracle, term, data):
    """The reverse is not guaranteed. OTP before 27 takes -0.0 and 0.0 for one key, and there are limits."""
    changed = bytearray(encode(term))
    changed[data.draw(st.integers(1, len(changed) - 1))] = data.draw(st.integers(0, 255))

    outcome, answer = oracle.ask("echo", bytes(changed))

    if outcome == Atom("ok"):
        try:
            read = decode(bytes(changed))
        except DecodeError as error:
            # OTP reads a reference of 0 words, but never writes one. It also reads tags of its own, which are
            # for ETS (external.h).
            assert re.search(r"a reference has|tag 7[3-6] is not|not tag 7[3-6]", error.message)  # noqa: PT017
        else:
            assume(is_kept(oracle, read))
            assert exact_key(decode(answer)) == exact_key(read)


# Printing. A BEAM prints another node's name as the index of an atom, and we as a small number. It is not compared.


def charlist(text):
    return list(map(ord, text))


printed_terms = st.recursive(
    st.one_of(leaves, st.text(max_size=8).map(charlist), scalar_text),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4),
        st.lists(st.tuples(atoms, inner), max_size=4),
        st.lists(st.tuples(inner, inner), max_size=4).map(Map),
        st.lists(st.tuples(atoms, inner), max_size=4).map(Map),
    ),
    max_leaves=12,
)


def has_plain_name(fun):
    """The emulator encodes UTF-8 twice, and writes some control characters differently from io_lib."""
    return all(name.name.isascii() and name.name.isprintable() for name in (fun.module, getattr(fun, "function", HERE)))


def without_identifiers(term):
    match term:
        case Pid() | Port() | Ref():
            return 0
        case Export() | Fun() if not has_plain_name(term):
            return 0
        case tuple():
            return tuple(map(without_identifiers, term))
        case list():
            return list(map(without_identifiers, term))
        case Map():
            return Map([(without_identifiers(key), without_identifiers(value)) for key, value in term.items()])
    return term


@given(term=printed_terms)
@asked_often
def test_a_term_prints_as_erlang_prints_it(oracle, term):
    term = returned(oracle, without_identifiers(term))

    assert format_erlang(term) == oracle("print", encode(term)).decode()


@given(number=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70).map(float))
@example(2.0**53)
@example(2.0**53 - 1)
@example(1e21)
@example(123456789012345680.0)
@asked_often
def test_a_float_prints_as_erlang_prints_it(oracle, number):
    assert format_erlang(number) == oracle("float", number).decode()


@given(name=st.text(st.characters(max_codepoint=0x17F), max_size=6) | st.sampled_from(["end", "let", "else"]))
@asked_often
def test_an_atom_prints_as_erlang_prints_it(oracle, name):
    if release(oracle) > 25:
        pytest.skip("later releases have more reserved words")

    assert str(Atom(name)) == oracle("print", encode(Atom(name))).decode()


@pytest.mark.parametrize(
    "term",
    [
        Pid(HERE, 64, 5, 0),
        Ref(HERE, 0, (1, 2, 3)),
        Port(HERE, 77, 0),
        Export(Atom("a b"), Atom("Elixir.Foo"), 3),
        Fun(1, bytes(16), 3, Atom("a b"), 4, 55, Pid(HERE, 64, 5, 0)),
    ],
    ids=lambda term: type(term).__name__,
)
def test_a_local_identifier_prints_as_erlang_prints_it(oracle, term):
    claim_local(HERE)
    try:
        assert str(term) == oracle("print", encode(term)).decode()
    finally:
        release_local(HERE)


def with_known_letters(term):
    """Which letters an atom may have without quotes depends on the Unicode version of either side."""
    match term:
        case Atom():
            return term if all(ord(character) < 0x180 for character in term.name) else Atom("other")
        case Export() | Fun():
            return 0
        case tuple():
            return tuple(map(with_known_letters, term))
        case list():
            return list(map(with_known_letters, term))
        case Map():
            return Map([(with_known_letters(key), with_known_letters(value)) for key, value in term.items()])
        case ImproperList():
            return ImproperList(tuple(map(with_known_letters, term.elements)), with_known_letters(term.tail))
    return term


def has_struct(term):
    match term:
        case Map():
            return Atom("__struct__") in term or any(has_struct(part) for pair in term.items() for part in pair)
        case tuple() | list():
            return any(map(has_struct, term))
    return False


@given(term=printed_terms)
@asked_often
def test_a_term_prints_as_elixir_prints_it(elixir_oracle, term):
    if elixir_oracle("inspect", encode(charlist("a"))) != b"'a'":
        pytest.skip("Elixir 1.15 and later write charlists in another way")
    term = returned(elixir_oracle, with_known_letters(without_identifiers(term)))
    assume(not has_struct(term))  # ours print without the struct's module, which a Python node has not

    assert format_elixir(term) == elixir_oracle("inspect", encode(term)).decode()


elixir_names = st.text(st.sampled_from("abAB_09@?!.é ~<>=|&+-*/\\^%{}:\n\"'"), max_size=5)


@example("::")
@given(name=elixir_names | elixir_names.map(lambda name: f"Elixir.{name}"))
@asked_often
def test_an_atom_prints_as_elixir_prints_it(elixir_oracle, name):
    for term in (Atom(name), [(Atom(name), 1)], Export(Atom("m"), Atom(name), 1)):
        assert format_elixir(term) == elixir_oracle("inspect", encode(term)).decode()


# Order and equality


@given(pair=st.tuples(terms, terms) | st.tuples(pids, pids) | st.tuples(refs, refs))
@asked_often
def test_two_terms_compare_as_in_erlang(oracle, pair):
    one, other = pair
    assume(not has_negative_zero(pair))
    expected = "lt" if sort_key(one) < sort_key(other) else "gt" if sort_key(one) > sort_key(other) else "eq"

    assert decode(oracle("pair", encode(one), encode(other))) == Atom(expected)


numbers = integers | floats | st.sampled_from([2.0**53, 2**53 + 1, 1e300, 10**300, 2.0**70, 2**70])


@given(some=st.lists(st.one_of(leaves, terms, numbers, numbers.map(lambda number: [number])), max_size=30))
@asked_often
def test_terms_sort_as_in_erlang(oracle, some):
    assume(not has_negative_zero(some))

    theirs = decode(oracle("sort", encode(some)))

    assert list(map(sort_key, theirs)) == sorted(map(sort_key, some))  # which of 0 and 0.0 comes first is left open


@given(pair=st.tuples(terms, terms), twin=st.booleans())
@asked_often
def test_terms_are_the_same_as_in_erlang(oracle, pair, twin):
    one, other = pair
    assume(not has_negative_zero(pair))
    if twin:
        other = returned(oracle, one)

    assert decode(oracle("same", encode(one), encode(other))) == (exact_key(one) == exact_key(other))
