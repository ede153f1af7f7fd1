# A stand-in for a shard of Phoenix.Tracker and the worker of its PubSub. It matches messages as strictly as the real one,
# so it ends at a malformed message. Its books are simple: they hold no more than the tests need.

defmodule Phoenix.Tracker.State do
  defstruct replica: nil, context: %{}, clouds: %{}, values: nil, pids: nil, mode: :unset, delta: :unset,
            replicas: %{}, range: {%{}, %{}}
end

defmodule Phoenix.Tracker do
  def list(tracker, topic) do
    for {^topic, key, _pid, meta} <- GenServer.call(:"#{tracker}_shard0", :list), do: {key, meta}
  end
end

defmodule StandIn.Adapter do
  @doc "Passes the messages of a topic to a process."
  def loop(topic, to) do
    receive do
      {:forward_to_local, ^topic, message, Phoenix.PubSub} -> send(to, message)
      {:forward_to_local, _, _, _} -> :ok
    end
    loop(topic, to)
  end
end

defmodule StandIn.Tracker do
  use GenServer
  alias Phoenix.Tracker.State

  @adapter MyApp.PubSub.Adapter

  @doc "Starts everything under a process that stays, whoever calls this."
  def start(tracker, period) do
    caller = self()
    spawn(fn ->
      :pg.start(Phoenix.PubSub)
      shard = :"#{tracker}_shard0"
      {:ok, pid} = GenServer.start_link(__MODULE__, {shard, period}, name: shard)
      send(caller, {:started, pid})
      Process.sleep(:infinity)
    end)
    receive(do: ({:started, pid} -> pid))
  end

  def init({shard, period}) do
    Process.flag(:trap_exit, true)
    topic = "phx_presence:#{shard}"
    me = self()
    spawn_link(fn ->
      Process.register(self(), @adapter)
      :ok = :pg.join(Phoenix.PubSub, @adapter, self())
      StandIn.Adapter.loop(topic, me)
    end)
    ref = {node(), System.system_time(:microsecond)}
    Process.send_after(self(), :beat, 10)
    {:ok, %{topic: topic, ref: ref, period: period, context: %{ref => 0}, values: %{}, new: [], gone: [], asked: 0}}
  end

  # What a test calls

  def handle_call({:track, pid, topic, key, meta}, _from, state) do
    # Also an entry of another node counts, until that node is forgotten.
    known = for {_, {^pid, ^topic, ^key, _}} <- state.values, do: key
    if known != [], do: {:reply, {:error, {:already_tracked, pid, topic, key}}, state}, else: add(pid, topic, key, meta, state)
  end

  def handle_call(:permdown, _from, state) do
    broadcast(state, {:pub, :graceful_permdown, state.ref})
    {:stop, :normal, :ok, state}
  end

  def handle_call(:asked, _from, state), do: {:reply, state.asked, state}

  def handle_call({:update, pid, topic, key, meta}, from, state) do
    case for({_, {^pid, ^topic, ^key, old}} <- state.values, do: old) do
      [] -> {:reply, {:error, :nopresence}, state}
      [old] -> handle_call({:track, pid, topic, key, Map.put(meta, :phx_ref_prev, old.phx_ref)}, from, drop(state, pid))
    end
  end

  def handle_call(:list, _from, state) do
    {:reply, for({_tag, {pid, topic, key, meta}} <- state.values, do: {topic, key, pid, meta}), state}
  end

  defp add(pid, topic, key, meta, state) do
    Process.link(pid)
    reference = Base.encode64(:crypto.strong_rand_bytes(9))
    {state, tag} = next(state)
    value = {pid, topic, key, Map.put(meta, :phx_ref, reference)}
    {:reply, {:ok, reference}, %{state | values: Map.put(state.values, tag, value), new: [tag | state.new]}}
  end

  # The messages of the protocol

  def handle_info({:pub, :heartbeat, {_, _} = ref, delta, clocks}, state) do
    state = up(state, ref)
    state = if delta == :empty, do: state, else: merge(state, delta)
    {_, %{} = context} = clocks
    behind = for {other, clock} <- context, is_integer(clock), clock > Map.get(state.context, other, clock), do: other
    if behind != [], do: direct(ref, state, {:pub, :transfer_req, make_ref(), state.ref, {state.ref, state.context}})
    {:noreply, state}
  end

  def handle_info({:pub, :transfer_req, id, {_, _} = asker, {_, %{} = known}}, state) do
    values = Map.filter(state.values, fn {{ref, _}, _} -> Map.has_key?(known, ref) end)
    full = %State{replica: state.ref, mode: :normal, context: Map.take(state.context, Map.keys(known))}
    direct(asker, state, {:pub, :transfer_ack, id, state.ref, {full, values}})
    {:noreply, %{state | asked: state.asked + 1}}
  end

  def handle_info({:pub, :transfer_ack, _id, {_, _}, answer}, state), do: {:noreply, merge(state, answer)}
  def handle_info({:pub, :graceful_permdown, {_, _} = ref}, state), do: {:noreply, forget(state, ref)}
  def handle_info({:EXIT, pid, _}, state), do: {:noreply, drop(state, pid)}

  def handle_info(:beat, state) do
    Process.send_after(self(), :beat, state.period)
    own = state.context[state.ref]
    delta =
      if state.new == [] and state.gone == [] do
        :empty
      else
        clouds = %{state.ref => MapSet.new(state.new ++ state.gone)}
        range = {%{state.ref => own - length(state.new)}, %{state.ref => own}}
        %State{replica: state.ref, mode: :delta, values: Map.take(state.values, state.new), clouds: clouds, range: range}
      end
    broadcast(state, {:pub, :heartbeat, state.ref, delta, {state.ref, state.context}})
    {:noreply, %{state | new: [], gone: []}}
  end

  # The books

  defp next(state) do
    clock = state.context[state.ref] + 1
    {%{state | context: %{state.context | state.ref => clock}}, {state.ref, clock}}
  end

  defp drop(state, pid) do
    Enum.reduce(for({tag, {^pid, _, _, _}} <- state.values, do: tag), state, fn tag, state ->
      {state, removal} = next(state)
      %{state | values: Map.delete(state.values, tag), new: [removal | state.new] -- [tag], gone: [tag | state.gone]}
    end)
  end

  defp up(state, {name, _} = ref) do
    old = for {other, _} = each <- Map.keys(state.context), other == name, each != ref, do: each
    state = Enum.reduce(old, state, &forget(&2, &1))
    %{state | context: Map.put_new(state.context, ref, 0)}
  end

  defp forget(state, ref) do
    values = Map.reject(state.values, fn {{other, _}, _} -> other == ref end)
    %{state | context: Map.delete(state.context, ref), values: values}
  end

  defp merge(state, %State{mode: :delta, values: %{} = values, clouds: %{} = clouds, range: {%{}, %{}}}) do
    tags = for {{_, _}, %MapSet{} = cloud} <- clouds, {{_, _}, clock} = tag <- cloud, is_integer(clock), do: tag
    merge(state, values, fn tag -> tag in tags end, Map.new(Enum.sort(tags)))
  end

  defp merge(state, {%State{mode: :normal, context: %{} = context, clouds: %{}}, %{} = values}) do
    covered = fn {ref, clock} -> clock <= Map.get(context, ref, -1) end
    merge(state, values, covered, context)
  end

  defp merge(state, values, covered, clocks) do
    for {{{_, _}, clock}, {pid, topic, _, %{phx_ref: _}}} <- values do
      true = is_integer(clock) and is_pid(pid) and is_binary(topic)
    end
    known = &(&1 != state.ref and Map.has_key?(state.context, &1))
    kept = Map.reject(state.values, fn {{ref, _} = tag, _} -> known.(ref) and covered.(tag) end)
    added = Map.filter(values, fn {{ref, _}, {_, _, _, _}} -> known.(ref) end)
    raised = Map.take(clocks, Enum.filter(Map.keys(clocks), known))
    %{state | values: Map.merge(kept, added), context: Map.merge(state.context, raised, fn _, a, b -> max(a, b) end)}
  end

  defp broadcast(state, message) do
    for pid <- :pg.get_members(Phoenix.PubSub, @adapter), node(pid) != node() do
      send(pid, {:forward_to_local, state.topic, message, Phoenix.PubSub})
    end
  end

  defp direct({name, _}, state, message) do
    send({@adapter, name}, {:forward_to_local, state.topic, message, Phoenix.PubSub})
  end
end
