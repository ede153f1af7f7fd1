# The tests need a node with a name, and Python with erlmesh:
#
#     COMPANION_PYTHON=../.venv/bin/python elixir --name test@127.0.0.1 -S mix test
# The limits only end a test that hangs: a loaded machine starts few Python nodes in a minute.
ExUnit.start(assert_receive_timeout: 30_000, timeout: 300_000, capture_log: true)

defmodule Erlmesh.Case do
  @moduledoc "What all tests use. A name of a server is used by one module only: modules run at the same time."

  use ExUnit.CaseTemplate

  using do
    quote do
      import ExUnit.CaptureLog
      import Erlmesh.Case
    end
  end

  @folder Path.expand("support", __DIR__)

  def options(more) do
    Keyword.merge([python: System.get_env("COMPANION_PYTHON", "python3"), cd: @folder, expose: ["probe"]], more)
  end

  def start_python(more) do
    start_supervised!({Erlmesh.Python, options(more)}, restart: :temporary)
  end

  def running?(pid) do
    case File.read("/proc/#{pid}/stat") do
      # A zombie has ended. Its parent has not asked for its status yet.
      {:ok, stat} -> not (stat =~ ~r/\) Z /)
      {:error, _} -> false
    end
  end

  def wait_until(condition, deadline \\ System.monotonic_time(:millisecond) + 60_000) do
    cond do
      condition.() ->
        :ok

      System.monotonic_time(:millisecond) > deadline ->
        flunk("the condition did not become true")

      true ->
        Process.sleep(10)
        wait_until(condition, deadline)
    end
  end
end
