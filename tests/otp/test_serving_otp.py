"""Servings, asked by real Elixir: with GenServer, erpc, and a caller that does what that of Nx.Serving does."""

from __future__ import annotations

import pytest

from erlmesh import Atom
from polling import wait_until
from skips import import_or_skip
from test_gen_server_otp import COMPILE
from test_system_messages_otp import elixir_path

pytestmark = [pytest.mark.timeout(120), pytest.mark.otps(25, 29)]
# The module of the caller must have the name that the request names. `group` is the one of either rule: the name of the
# serving, or the module for all servings.
ELIXIR = b"""
defmodule Nx.Tensor do
  defstruct [:data, :type, :shape, :names, vectorized_axes: []]
end
defmodule Nx.BinaryBackend do
  defstruct [:state]
end
defmodule Nx.Serving do
  @scope Nx.Serving.PG
  def start_scope do
    with {:ok, pid} <- :pg.start(@scope), do: pid
  end
  def members(group), do: :pg.get_members(@scope, group)
  def ask(group, name, input, attempts \\\\ 3) do
    member = @scope |> :pg.get_members(group) |> Enum.random()
    ref = make_ref()
    arguments = [self(), ref, name, input]
    {_, monitor} = Node.spawn_monitor(node(member), __MODULE__, :__distributed_batched_run__, arguments)
    answer(monitor, ref, [], fn -> attempts > 1 && ask(group, name, input, attempts - 1) end)
  end
  def answer(monitor, ref, seen, again) do
    receive do
      {:DOWN, ^monitor, _, _, {^ref, :streaming}} -> {:stream, Enum.reverse(seen)}
      {:DOWN, ^monitor, _, _, {^ref, result}} -> {:ok, result}
      {:DOWN, ^monitor, _, _, :noproc} -> again.() || {:exit, :noproc}
      {:DOWN, ^monitor, _, _, reason} -> {:exit, reason}
      {^ref, event} -> answer(monitor, ref, [event | seen], again)
    after
      9_000 -> :hangs
    end
  end
  def tensor(numbers) do
    binary = for number <- numbers, into: <<>>, do: <<number::float-32-little>>
    %Nx.Tensor{
      data: %Nx.BinaryBackend{state: binary}, type: {:f, 32}, shape: {length(numbers)}, names: [nil]
    }
  end
  def to_list(%Nx.Tensor{data: %Nx.BinaryBackend{state: binary}, type: {:f, 32}, shape: {n}, names: [nil]})
      when byte_size(binary) == 4 * n,
      do: for(<<number::float-32-little <- binary>>, do: number)
  def double_tensor(group, name, numbers) do
    {:ok, tensor} = ask(group, name, tensor(numbers))
    to_list(tensor)
  end
  def is_exact(group, name, numbers) do
    {:ok, tensor} = ask(group, name, tensor(numbers))
    Map.keys(tensor) == Map.keys(tensor(numbers))
  end
  def on_gpu, do: %{tensor([1.0]) | data: %{__struct__: EXLA.Backend, buffer: make_ref()}}
  def many(group, name, inputs) do
    inputs |> Task.async_stream(&ask(group, name, &1), max_concurrency: 100) |> Enum.map(&elem(&1, 1))
  end
  def stream_of_calls(pid, input) do
    {:ok, ref} = GenServer.call(pid, {:stream, input})
    events(ref, [])
  end
  defp events(ref, seen) do
    receive do
      {^ref, :event, event} -> events(ref, [event | seen])
      {^ref, :done} -> Enum.reverse(seen)
      {^ref, :error, reason} -> {:error, reason}
    after
      9_000 -> :hangs
    end
  end
end
"""
PYTHON = """
import numpy
from erlmesh import serving
batches = []

@serving(name="MyApp.Doubler", nx=True, weight=2, as_="models", batch_size=16, wait=0.05)
def double(inputs):
    batches.append(len(inputs))
    if any(type(each) is bytes and each == b"fail" for each in inputs):
        raise ValueError("broken")
    return [each + each for each in inputs]

@serving(name="MyApp.Letters", nx=True, wait=0)
def letters(texts):
    for position in range(max(map(len, texts))):
        yield [text[position : position + 1] or None for text in texts]

@serving(name="MyApp.Big", nx=True, wait=0)
def big(sizes):
    return [bytes(size) for size in sizes]

pids = [await each.start(node) for each in (double, letters, big)]
"""
DOUBLER, LETTERS, BIG, MODULE = (
    Atom(f"Elixir.{name}") for name in ("MyApp.Doubler", "MyApp.Letters", "MyApp.Big", "Nx.Serving")
)
OK, EXIT, STREAM, STREAMING = map(Atom, ("ok", "exit", "stream", "streaming"))


@pytest.fixture
def nodes(cluster, otp):
    import_or_skip("numpy")
    beam = cluster.beam("plato", otp=otp, arguments=elixir_path(otp))
    python = cluster.pynode("socrates")
    python.eval(PYTHON)
    beam.eval(COMPILE, Source=ELIXIR)
    beam.eval("'Elixir.Nx.Serving':start_scope()")
    assert beam.ping(python.name)
    wait_until(lambda: len(beam.eval("'Elixir.Nx.Serving':members('Elixir.Nx.Serving')")) == 4)
    return beam, python


def test_elixir_asks_servings_as_it_asks_those_of_nx(nodes):
    beam, python = nodes

    def nx(function, *arguments):
        return beam.eval("apply('Elixir.Nx.Serving', F__, A__)", F__=Atom(function), A__=list(arguments))

    # Both rules for the group, and a name that is not here.
    assert len(nx("members", DOUBLER)) == 2
    for group in (DOUBLER, MODULE):
        assert nx("ask", group, DOUBLER, b"ab") == (OK, b"abab")
    assert nx("ask", MODULE, Atom("Elixir.MyApp.Other"), 1) == (EXIT, Atom("noproc"))
    # Callers share batches.
    python.eval("batches.clear()")
    assert nx("many", DOUBLER, DOUBLER, list(range(40))) == [(OK, 2 * number) for number in range(40)]
    assert sum(python.eval("batches")) == 40
    assert len(python.eval("batches")) < 20
    # Errors, streams, tensors, and a large answer.
    assert nx("ask", DOUBLER, DOUBLER, b"fail") == (EXIT, (Atom("ValueError"), b"broken"))
    assert nx("ask", LETTERS, LETTERS, b"abc") == (STREAM, [STREAMING, b"a", b"b", b"c"])
    assert nx("double_tensor", DOUBLER, DOUBLER, [1.5, -2.0]) == [3.0, -4.0]
    assert nx("is_exact", DOUBLER, DOUBLER, [1.5])
    _, (reason, text) = nx("ask", DOUBLER, DOUBLER, nx("on_gpu"))
    assert (reason, b"EXLA.Backend, which another node cannot read: copy it first" in text) == (Atom("bad_input"), True)
    size = beam.eval(f"{{ok, B}} = 'Elixir.Nx.Serving':ask('{BIG.name}', '{BIG.name}', 20000000), byte_size(B)")
    assert size == 20_000_000


def test_elixir_asks_servings_with_genserver_and_erpc(nodes):
    beam, python = nodes
    pids = python.eval("pids")

    assert beam.eval("'Elixir.GenServer':call(P, {run, <<\"x\">>})", P=pids[0]) == (OK, b"xx")
    assert beam.eval("'Elixir.GenServer':call({'Elixir.MyApp.Doubler', N}, {run, 4})", N=python.atom) == (OK, 8)
    assert beam.eval("_ = pg:start(pg), ok")
    wait_until(lambda: beam.members(DOUBLER) == [pids[0]])
    assert beam.eval("erpc:call(N, models, double, [4])", N=python.atom) == 8
    stream = beam.eval("'Elixir.Nx.Serving':stream_of_calls(P, <<\"hi\">>)", P=pids[1])
    assert stream == [b"h", b"i"]
    statistics = beam.eval("'Elixir.GenServer':call(P, statistics)", P=pids[0])
    assert statistics[Atom("requests")] == 3
    # A stop by Elixir answers what was accepted.
    beam.eval("'Elixir.GenServer':stop(P)", P=pids[0])
    assert beam.eval("catch 'Elixir.GenServer':call(P, {run, 1})", P=pids[0])[0] is Atom("EXIT")
