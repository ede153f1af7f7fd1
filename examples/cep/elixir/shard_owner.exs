defmodule ShardOwner do
  @moduledoc """
  Holds shards beside Python nodes: `ShardOwner.start_link(name: "feeds", shards: 64, take: f, release: g)`.
  `take` starts to act for a shard. `release` returns when nothing acts for it any more. It needs OTP 25.1 or later.
  """
  use GenServer

  def start_link(options), do: GenServer.start_link(__MODULE__, Map.new(options))

  def init(state) do
    Process.flag(:trap_exit, true)
    {_ref, groups} = :pg.monitor_scope(:pg)
    Process.send_after(self(), :join, Map.get(state, :settle, 500))
    {:ok, Map.merge(state, %{g: {"erlmesh_shards", state.name}, groups: groups, held: MapSet.new()})}
  end

  # Listen before the join: who joins at once makes others release before it can take.
  def handle_info(:join, state), do: {:noreply, tap(state, &:pg.join(&1.g, self()))}

  def handle_info({_ref, change, group, pids}, %{name: name, shards: shards} = state) when change in [:join, :leave] do
    state = update_in(state.groups[group], &if(change == :join, do: pids ++ (&1 || []), else: (&1 || []) -- pids))

    case group do
      {"erlmesh_shards", ^name} -> {:noreply, Enum.reduce(0..(shards - 1), state, &look/2)}
      {"erlmesh_shards", ^name, s} when is_integer(s) and s in 0..(shards - 1) -> {:noreply, look(s, state)}
      _ -> {:noreply, %{state | groups: Map.delete(state.groups, group)}}
    end
  end

  def handle_info(_message, state), do: {:noreply, state}

  def terminate(_reason, state) do
    :pg.leave(state.g, self())
    Enum.each(state.held, &let_go(&1, state))
  end

  defp look(s, state) do
    mine = owner(state.groups[state.g], "#{state.name}/#{s}") == self()
    others = List.delete(state.groups[Tuple.append(state.g, s)] || [], self())

    case {s in state.held, mine} do
      {true, false} -> let_go(s, state)
      {false, true} when others == [] -> take(s, state)
      _ -> state
    end
  end

  defp take(s, state) do
    :pg.join(Tuple.append(state.g, s), self())
    state.take.(s)
    %{state | held: MapSet.put(state.held, s)}
  end

  defp let_go(s, state) do
    state.release.(s)
    :pg.leave(Tuple.append(state.g, s), self())
    %{state | held: MapSet.delete(state.held, s)}
  end

  defp owner(members, key),
    do: (members || []) |> Enum.sort() |> Enum.max_by(&:erlang.md5("#{node(&1)}\0#{key}"), fn -> nil end)
end
