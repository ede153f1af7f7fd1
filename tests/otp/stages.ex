# Stages that speak the message protocol of Elixir's library gen_stage, for tests. They keep what they get and ask for
# what a test tells them to.

defmodule StageProducer do
  use GenServer

  def start(first), do: GenServer.start(__MODULE__, first, name: __MODULE__)
  def init(first), do: {:ok, %{next: first, consumers: %{}, log: []}}

  def handle_call(:log, _from, state), do: {:reply, Enum.reverse(state.log), state}
  def handle_call(:tags, _from, state), do: {:reply, Map.keys(state.consumers), state}
  def handle_call({:stop, reason}, _from, state), do: {:stop, reason, :ok, state}

  # As many numbers as were asked for, in messages of three.
  def handle_info({:"$gen_producer", {pid, tag} = from, {:ask, count}}, state) do
    state = note(state, {:ask, count})
    if Map.has_key?(state.consumers, tag) do
      numbers = Enum.to_list(state.next..(state.next + count - 1))
      for part <- Enum.chunk_every(numbers, 3), do: send(pid, {:"$gen_consumer", {self(), tag}, part})
      {:noreply, %{state | next: state.next + count}}
    else
      cancel(from, :unknown_subscription)
      {:noreply, state}
    end
  end

  def handle_info({:"$gen_producer", {pid, tag}, {:subscribe, _current, options}}, state) do
    Process.monitor(pid)
    {:noreply, note(%{state | consumers: Map.put(state.consumers, tag, pid)}, {:subscribe, Keyword.take(options, [:max_demand])})}
  end

  def handle_info({:"$gen_producer", {_, tag} = from, {:cancel, reason}}, state) do
    cancel(from, reason)
    {:noreply, note(%{state | consumers: Map.delete(state.consumers, tag)}, {:cancel, reason})}
  end

  def handle_info({:DOWN, _, _, pid, reason}, state) do
    consumers = for {tag, each} <- state.consumers, each != pid, into: %{}, do: {tag, each}
    {:noreply, note(%{state | consumers: consumers}, {:down, reason})}
  end

  defp cancel({pid, tag}, reason), do: send(pid, {:"$gen_consumer", {self(), tag}, {:cancel, reason}})
  defp note(state, entry), do: %{state | log: [entry | state.log]}
end

defmodule StageConsumer do
  use GenServer

  def start(producer, options), do: GenServer.start(__MODULE__, {producer, options}, name: __MODULE__)

  def init({producer, options}) do
    tag = Process.monitor(producer)
    send(producer, {:"$gen_producer", {self(), tag}, {:subscribe, nil, options}})
    {:ok, %{producer: producer, tag: tag, asked: 0, events: [], excess: 0, ends: []}}
  end

  def handle_call({:ask, count}, _from, state) do
    send(state.producer, {:"$gen_producer", {self(), state.tag}, {:ask, count}})
    {:reply, :ok, %{state | asked: state.asked + count}}
  end

  def handle_call({:cancel, reason}, _from, state) do
    send(state.producer, {:"$gen_producer", {self(), state.tag}, {:cancel, reason}})
    {:reply, :ok, state}
  end

  def handle_call(:seen, _from, state), do: {:reply, {state.events, state.excess, Enum.reverse(state.ends)}, state}
  def handle_call({:stop, reason}, _from, state), do: {:stop, reason, :ok, state}

  def handle_info({:"$gen_consumer", {_, tag}, events}, %{tag: tag} = state) when is_list(events) do
    all = state.events ++ events
    {:noreply, %{state | events: all, excess: max(state.excess, length(all) - state.asked)}}
  end

  def handle_info({:"$gen_consumer", {_, _}, {:cancel, reason}}, state), do: {:noreply, ended(state, {:cancel, reason})}
  def handle_info({:DOWN, _, _, _, reason}, state), do: {:noreply, ended(state, {:down, reason})}

  defp ended(state, entry), do: %{state | ends: [entry | state.ends]}
end
