# Sends ticks of three symbols to the owners, and prints the ticks and the final means that come back. In `examples`:
#
#   elixir --name sappho@127.0.0.1 --cookie monster -r cep/elixir/source.exs -r cep/elixir/sink.exs \
#     cep/elixir/source_and_sink.exs plato@127.0.0.1

[peer] = System.argv()
true = Node.connect(String.to_atom(peer))
{:ok, _} = :pg.start_link()

wait = fn wait, tries, condition ->
  cond do
    condition.() -> :ok
    tries == 0 -> raise "not within 10 s"
    true -> Process.sleep(10) && wait.(wait, tries - 1, condition)
  end
end

shards = 64
held? = fn shard -> :pg.get_members({"erlmesh_shards", "cep", shard}) != [] end
wait.(wait, 1000, fn -> Enum.all?(0..(shards - 1), held?) end)

me = self()
{:ok, _} = Sink.start_link("results", fn key, results -> send(me, {:results, key, results}) end)
{:ok, source} = Source.start_link("ticks", {:shards, "cep", shards})
symbols = for number <- 0..2, do: "ELX0#{number}"
count = 200
start = System.os_time(:millisecond)

for number <- 1..count, symbol <- symbols do
  {time, price} = {start + number * 10 - rem(number * 7, 30), 10_000 + rem(number * number * 31, 997)}
  :ok = Source.put(source, symbol, {time, price})
  IO.puts("tick #{symbol} #{number} #{time} #{price}")
end

for symbol <- symbols, do: :ok = Source.put(source, symbol, :end)
wait.(wait, 1000, fn -> Source.kept(source) == 0 end)

receive_all = fn receive_all, left ->
  if left > 0 do
    receive do
      {:results, key, results} ->
        finals = for {:final, _, number, _, sum, size} <- results, key in symbols, do: {number, sum, size}
        for {number, sum, size} <- finals, do: IO.puts("final #{key} #{number} #{sum} #{size}")
        receive_all.(receive_all, left - length(finals))
    after
      10_000 -> raise "#{left} final means are missing"
    end
  end
end

receive_all.(receive_all, count * length(symbols))
IO.puts("done")
