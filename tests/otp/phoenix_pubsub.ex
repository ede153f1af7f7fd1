# A stand-in for Phoenix.PubSub: it has the same messages, groups and functions, as far as the tests need them.
#
# `naming` chooses the names of the groups: "2.0", "2.1.0", or "2.1.1" for all later releases.

defmodule StandIn.Worker do
  use GenServer

  def start_link({group, pubsub}), do: GenServer.start_link(__MODULE__, {group, pubsub}, name: group)

  def init({group, pubsub}) do
    :pg.join(Phoenix.PubSub, group, self())
    {:ok, pubsub}
  end

  # It ends here if the dispatcher is not loaded.
  def handle_info({:forward_to_local, topic, message, dispatcher}, pubsub) do
    Phoenix.PubSub.local_broadcast(pubsub, topic, message, dispatcher)
    {:noreply, pubsub}
  end

  def handle_info(_other, pubsub), do: {:noreply, pubsub}
end

defmodule Phoenix.PubSub do
  @doc "Starts the PubSub under a process that stays, whoever calls this."
  def start(pubsub, pool_size, naming) do
    caller = self()
    spawn(fn ->
      :pg.start(Phoenix.PubSub)
      names = names(Module.concat(pubsub, "Adapter"), pool_size, naming)
      :persistent_term.put({Phoenix.PubSub, pubsub}, List.to_tuple(names))
      workers = for name <- names, do: Supervisor.child_spec({StandIn.Worker, {name, pubsub}}, id: name)
      registry = {Registry, keys: :duplicate, name: pubsub}
      {:ok, _} = Supervisor.start_link([registry | workers], strategy: :one_for_one, max_restarts: 1000)
      send(caller, {:started, pubsub})
      Process.sleep(:infinity)
    end)
    receive(do: ({:started, ^pubsub} -> :ok))
  end

  defp names(adapter, 1, "2.0"), do: [adapter]
  defp names(adapter, size, "2.1.0"), do: for(n <- 1..size, do: :"#{adapter}_#{n}")
  defp names(adapter, size, "2.1.1"), do: [adapter | for(n <- 2..size//1, do: :"#{adapter}_#{n}")]

  def subscribe(pubsub, topic, options \\ []) do
    with {:ok, _} <- Registry.register(pubsub, topic, options[:metadata]), do: :ok
  end

  def unsubscribe(pubsub, topic), do: Registry.unregister(pubsub, topic)

  def broadcast(pubsub, topic, message, dispatcher \\ __MODULE__) do
    for pid <- :pg.get_members(Phoenix.PubSub, group(pubsub)), node(pid) != node() do
      send(pid, {:forward_to_local, topic, message, dispatcher})
    end
    local_broadcast(pubsub, topic, message, dispatcher)
  end

  def broadcast_from(pubsub, from, topic, message, dispatcher \\ __MODULE__) do
    for pid <- :pg.get_members(Phoenix.PubSub, group(pubsub)), node(pid) != node() do
      send(pid, {:forward_to_local, topic, message, dispatcher})
    end
    Registry.dispatch(pubsub, topic, {dispatcher, :dispatch, [from, message]})
  end

  def direct_broadcast(node, pubsub, topic, message, dispatcher \\ __MODULE__) do
    send({group(pubsub), node}, {:forward_to_local, topic, message, dispatcher})
    :ok
  end

  def local_broadcast(pubsub, topic, message, dispatcher \\ __MODULE__) do
    Registry.dispatch(pubsub, topic, {dispatcher, :dispatch, [:none, message]})
  end

  def dispatch(subscribers, from, message) do
    for {pid, _metadata} <- subscribers, pid != from, do: send(pid, message)
    :ok
  end

  defp group(pubsub) do
    names = :persistent_term.get({Phoenix.PubSub, pubsub})
    elem(names, :erlang.phash2(self(), tuple_size(names)))
  end

  # For the tests

  @doc "A process that has subscribed and collects what it gets, in order."
  def collector(pubsub, topic, options \\ []) do
    caller = self()
    pid = spawn(fn ->
      :ok = subscribe(pubsub, topic, options)
      send(caller, {:subscribed, self()})
      collect([])
    end)
    receive(do: ({:subscribed, ^pid} -> pid))
  end

  defp collect(messages) do
    receive do
      {:collected, from, reference} ->
        send(from, {reference, Enum.reverse(messages)})
        collect(messages)

      message ->
        collect([message | messages])
    end
  end

  def collected(pid) do
    reference = make_ref()
    send(pid, {:collected, self(), reference})
    receive(do: ({^reference, messages} -> messages))
  end

  @doc "Broadcasts 1 … count from one process, or each from a process of its own."
  def count(pubsub, topic, count, :one_sender), do: Enum.each(1..count, &broadcast(pubsub, topic, &1))

  def count(pubsub, topic, count, :many_senders) do
    for number <- 1..count do
      {_, reference} = spawn_monitor(fn -> broadcast(pubsub, topic, number) end)
      receive(do: ({:DOWN, ^reference, _, _, _} -> :ok))
    end
  end
end
