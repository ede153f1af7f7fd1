defmodule Source do
  @moduledoc "Numbers messages by key, and keeps each until its holder has acknowledged it. OTP 25.1 or later."
  use GenServer
  @credit 512

  # `to` is {:group, group, name} for inboxes with that name, or {:shards, name, count}.
  def start_link(name, to), do: GenServer.start_link(__MODULE__, {name, to})
  def put(source, key, message), do: GenServer.call(source, {:put, key, message}, :infinity)
  def kept(source), do: GenServer.call(source, :kept)

  def owner(group, key),
    do: :pg.get_members(group) |> Enum.sort() |> Enum.max_by(&:erlang.md5("#{node(&1)}\0#{key}"), fn -> nil end)

  defp holder({:group, group, _}, key), do: owner(group, key)

  defp holder({:shards, name, _} = to, key), do: owner(shard(to, key), "#{name}/#{elem(shard(to, key), 2)}")

  # The group of the holder of a key.
  defp shard({:shards, name, count}, key) do
    <<first::32, _::binary>> = :erlang.md5(key)
    {"erlmesh_shards", name, rem(first, count)}
  end

  def init({name, to}) do
    {ref, _} = :pg.monitor_scope()
    to_name = if elem(to, 0) == :group, do: elem(to, 2), else: elem(to, 1)
    {:ok, %{to: to, name: to_name, id: {node(), System.os_time(), name}, ref: ref, keys: %{}, kept: 0, callers: []}}
  end

  # A key is {holder, next number, [{number, message}]}, and its messages are in order.
  def handle_call({:put, key, message}, from, s) do
    {old, next, kept} = Map.get(s.keys, key, {nil, 1, []})
    to = if kept == [], do: holder(s.to, key), else: old
    s = %{s | keys: Map.put(s.keys, key, {to, next + 1, kept ++ [{next, message}]}), kept: s.kept + 1}
    send_all(s, key, to, [{next, message}])
    if s.kept < @credit, do: {:reply, :ok, s}, else: {:noreply, %{s | callers: [from | s.callers]}}
  end

  def handle_call(:kept, _, s), do: {:reply, s.kept, s}

  def handle_info({:shard_ack, _, key, id, n}, %{id: id} = s), do: {:noreply, forget(s, key, &(&1 <= n))}
  def handle_info({:shard_refused, _, key, id, n, _why}, %{id: id} = s), do: {:noreply, forget(s, key, &(&1 == n))}

  def handle_info({:shard_go, _, key, id, last}, %{id: id} = s) do
    with {to, _, kept} <- s.keys[key], do: send_all(s, key, to, Enum.filter(kept, &(elem(&1, 0) > last)))
    {:noreply, s}
  end

  # A holder that has left and is back is another one: it gets everything again.
  def handle_info({ref, change, _group, pids}, %{ref: ref} = s) when change in [:join, :leave] do
    {:noreply, Enum.reduce(s.keys, s, &move(&1, &2, if(change == :leave, do: pids, else: [])))}
  end

  def handle_info(_, s), do: {:noreply, s}

  defp move({_, {_, _, []}}, s, _), do: s

  defp move({key, {old, next, kept}}, s, gone) do
    new = if stays?(s.to, key, old, gone), do: old, else: holder(s.to, key)
    if new != old or old in gone, do: send_all(s, key, new, kept)
    put_in(s.keys[key], {new, next, kept})
  end

  # After a partition a shard has two holders until their states are merged. Messages stay with theirs until it leaves.
  defp stays?({:group, _, _}, _, _, _), do: false
  defp stays?(to, key, old, gone), do: old not in gone and old in :pg.get_members(shard(to, key))

  defp forget(s, key, settled?) do
    {to, next, kept} = Map.get(s.keys, key, {nil, 1, []})
    left = Enum.reject(kept, &settled?.(elem(&1, 0)))
    s = %{put_in(s.keys[key], {to, next, left}) | kept: s.kept - length(kept) + length(left)}
    if s.kept < @credit, do: Enum.each(s.callers, &GenServer.reply(&1, :ok))
    if s.kept < @credit, do: %{s | callers: []}, else: s
  end

  defp send_all(_, _, nil, _), do: :ok
  defp send_all(s, key, to, kept), do: for({n, m} <- kept, do: send(to, {:shard_put, s.name, key, s.id, n, m, self()}))
end
