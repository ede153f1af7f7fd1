# A stand-in for the part of Phoenix that hands broadcasts to channels and LiveViews.

defmodule Phoenix.Socket.Broadcast do
  defstruct [:topic, :event, :payload]
end

defmodule Phoenix.Channel.Server do
  alias Phoenix.Socket.Broadcast

  # A channel has subscribed with {:fastlane, socket, serializer, intercepts}: its socket gets the serialized event.
  def dispatch(subscribers, from, %Broadcast{} = broadcast) do
    for {pid, metadata} <- subscribers, pid != from do
      case metadata do
        {:fastlane, socket, serializer, intercepts} ->
          if broadcast.event in intercepts do
            send(pid, broadcast)
          else
            send(socket, {:push, serializer, broadcast.topic, broadcast.event, broadcast.payload})
          end

        _ ->
          send(pid, broadcast)
      end
    end
    :ok
  end
end

# A LiveView, as far as PubSub sees it: it counts by the events that it gets.
defmodule DashboardLive do
  def mount(pubsub) do
    caller = self()
    pid = spawn(fn ->
      :ok = Phoenix.PubSub.subscribe(pubsub, "jobs")
      send(caller, {:mounted, self()})
      loop(%{done: 0, last: nil})
    end)
    receive(do: ({:mounted, ^pid} -> pid))
  end

  def assigns(pid) do
    send(pid, {:assigns, self()})
    receive(do: ({:assigns_of, ^pid, assigns} -> assigns))
  end

  defp loop(assigns) do
    receive do
      {:assigns, from} ->
        send(from, {:assigns_of, self(), assigns})
        loop(assigns)

      %Phoenix.Socket.Broadcast{event: "progress", payload: %{done: done, job: job}} ->
        loop(%{assigns | done: done, last: job})
    end
  end
end
