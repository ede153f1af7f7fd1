# A stand-in for the part of a Phoenix application around a LiveView. It runs the callbacks in a process.

defmodule StandIn.LiveView do
  def connected?(_socket), do: true
  def assign(socket, values), do: Map.merge(socket, Map.new(values))
  def update(socket, key, change), do: Map.update!(socket, key, change)

  @doc "Starts a view. Messages {event, Name, Params} stand for clicks of the browser."
  def start(view) do
    caller = self()
    pid = spawn(fn ->
      {:ok, socket} = view.mount(%{}, %{}, %{})
      send(caller, {:mounted, self()})
      loop(view, socket)
    end)
    receive(do: ({:mounted, ^pid} -> pid))
  end

  def assigns(pid) do
    send(pid, {:assigns, self()})
    receive(do: ({:assigns_of, ^pid, assigns} -> assigns))
  end

  defp loop(view, socket) do
    receive do
      {:assigns, from} ->
        send(from, {:assigns_of, self(), socket})
        loop(view, socket)

      {:event, name, params} ->
        {:noreply, socket} = view.handle_event(name, params, socket)
        loop(view, socket)

      message ->
        {:noreply, socket} = view.handle_info(message, socket)
        loop(view, socket)
    end
  end
end

defmodule MyAppWeb do
  defmacro __using__(:live_view), do: quote(do: import(StandIn.LiveView))
end

defmodule MyAppWeb.Endpoint do
  def subscribe(topic), do: Phoenix.PubSub.subscribe(MyApp.PubSub, topic)
end
