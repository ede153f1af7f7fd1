defmodule Sink do
  @moduledoc "Counts each result once, and acknowledges it. `on_result` gets the key and the result."
  def start_link(group, on_result) do
    pid = spawn_link(fn -> loop(MapSet.new(), on_result) end)
    :ok = :pg.join(group, pid)
    {:ok, pid}
  end

  defp loop(seen, on_result) do
    receive do
      {:shard_out, name, key, source, number, result, from} ->
        unless {key, source, number} in seen, do: on_result.(key, result)
        send(from, {:shard_got, name, key, source, number})
        loop(MapSet.put(seen, {key, source, number}), on_result)
    end
  end
end
