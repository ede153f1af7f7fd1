"""The codec, the notations and the order, asked of a real Erlang (and Elixir): random terms, there and back."""

import os
import shutil
import struct
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erlmesh.etf import decode, encode
from erlmesh.notation import erlang
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref, exact, sort_key
from terms_strategy import has_negative_zero, leaves, scalar_text, terms

pytestmark = pytest.mark.otp

ORACLE = r"""
Print = fun(Format, T) -> unicode:characters_to_binary(io_lib:format(Format, [T])) end,
Answer = fun
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
    """One Erlang at the other end of a pipe, asked by length-prefixed terms."""

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
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def oracle():
    erl = shutil.which("erl")
    if erl is None:
        pytest.skip("no erl")
    oracle = Oracle([erl, "-noinput", "-boot", "start_clean", "-eval", ORACLE])
    yield oracle
    oracle.close()


@pytest.fixture(scope="module")
def elixir_oracle():
    erl, elixirc = shutil.which("erl"), shutil.which("elixir")
    if erl is None or elixirc is None:
        pytest.skip("no elixir")
    command = [elixirc, "-e", "IO.write(:code.lib_dir(:elixir))"]
    library = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    start = "{ok, _} = application:ensure_all_started(elixir),"
    oracle = Oracle([erl, "-noinput", "-boot", "start_clean", "-pa", f"{library}/ebin", "-eval", start + ORACLE])
    yield oracle
    oracle.close()
