defmodule Counter do
  use GenServer

  def init(start), do: {:ok, %{count: start, callers: []}}

  def handle_call(:increment, _from, state), do: {:reply, state.count + 1, %{state | count: state.count + 1}}
  def handle_call(:get, _from, state), do: {:reply, state.count, state}
  def handle_call(:later, from, state), do: {:noreply, %{state | callers: state.callers ++ [from]}}
  def handle_call({:stop, reason}, _from, state), do: {:stop, reason, :stopping, state}
  def handle_call({:exit, reason}, _from, _state), do: exit(reason)
  def handle_call(:silent_stop, _from, state), do: {:stop, :silent, state}
  def handle_call({:continue, number}, _from, state), do: {:reply, :ok, state, {:continue, number}}

  def handle_cast(:release, state) do
    Enum.each(state.callers, &GenServer.reply(&1, state.count))
    {:noreply, %{state | callers: []}}
  end

  def handle_cast({:set, number}, state), do: {:noreply, %{state | count: number}}
  def handle_cast(:trap, state), do: {:noreply, tap(state, fn _ -> Process.flag(:trap_exit, true) end)}

  def handle_info({:ping, pid}, state) do
    send(pid, :pong)
    {:noreply, state}
  end

  def handle_info({:EXIT, _pid, reason}, state), do: {:noreply, %{state | count: reason}}

  def handle_continue(number, state), do: {:noreply, %{state | count: number}}
end
