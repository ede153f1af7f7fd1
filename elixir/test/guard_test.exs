defmodule Erlmesh.GuardTest do
  use Erlmesh.Case, async: true

  test "a program that prints what it reads puts no cookie into the log" do
    Process.flag(:trap_exit, true)

    log =
      capture_log(fn ->
        options = [python: ["/bin/sh", "-c", "head -n 1; exit 3"], grace: 1]
        {:error, {%Erlmesh.StartError{log: lines}, []}} = Erlmesh.Python.start_link(options)
        assert hd(lines) == "(the cookie)"
      end)

    assert not (log =~ Atom.to_string(Node.get_cookie()))
  end

  test "a guard that is killed leaves no process of the node" do
    server = start_python(name: Shop.Guarded)
    {node, guard, child} = Erlmesh.call!(Shop.Guarded, "probe", "pids")
    monitor = Process.monitor(server)

    capture_log(fn ->
      System.cmd("kill", ["-KILL", "#{guard}"])
      assert_receive {:DOWN, ^monitor, _, _, {%Erlmesh.ExitError{}, []}}, 60_000
    end)

    wait_until(fn -> not Enum.any?([node, guard, child], &running?/1) end)
  end

  test "a node whose guard is paused is killed" do
    start_python(name: Shop.Paused, grace: 0)
    {node, guard, child} = Erlmesh.call!(Shop.Paused, "probe", "pids")
    {_, 0} = System.cmd("kill", ["-STOP", "#{guard}"])

    stop_supervised!(Shop.Paused)

    wait_until(fn -> Enum.filter([node, guard, child], &running?/1) == [] end)
  end
end
