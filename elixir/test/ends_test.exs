defmodule Erlmesh.EndsTest do
  use Erlmesh.Case, async: true

  defp hold_gil(python) do
    path = Path.join(System.tmp_dir!(), "erlmesh_held_#{System.unique_integer([:positive])}")
    on_exit(fn -> File.rm(path) end)
    assert {:error, %{reason: :timeout}} = Erlmesh.call(python, "probe", "hold_gil", [path], 100)
    wait_until(fn -> File.exists?(path) end)
  end

  test "a supervisor restarts it after kill -9, and nothing of the first one is left" do
    {:ok, supervisor} = Supervisor.start_link([{Erlmesh.Python, options(name: Shop.Killed)}], strategy: :one_for_one)

    {node, guard, child} = Erlmesh.call!(Shop.Killed, "probe", "pids")
    server = Process.whereis(Shop.Killed)
    monitor = Process.monitor(server)

    log =
      capture_log(fn ->
        Erlmesh.call(Shop.Killed, "probe", "crash")
        assert_receive {:DOWN, ^monitor, _, _, {%Erlmesh.ExitError{status: 137}, []}}
      end)

    assert log =~ "it was killed"
    wait_until(fn -> Process.whereis(Shop.Killed) not in [nil, server] end)
    wait_until(fn -> Erlmesh.call(Shop.Killed, "probe", "length", ["abc"]) == {:ok, 3} end)
    assert Enum.filter([node, guard, child], &running?/1) == []
    Supervisor.stop(supervisor)
  end

  test "a node whose GIL is held, and an owner that is killed, leave nothing" do
    start_python(name: Shop.Held, grace: 200)
    pids = Tuple.to_list(Erlmesh.call!(Shop.Held, "probe", "pids"))
    hold_gil(Shop.Held)

    log = capture_log(fn -> stop_supervised!(Shop.Held) end)

    assert log =~ "did not stop in time and is killed"
    wait_until(fn -> Enum.filter(pids, &running?/1) == [] end)

    owner = start_python(name: Shop.Held, grace: 200)
    pids = Tuple.to_list(Erlmesh.call!(Shop.Held, "probe", "pids"))
    hold_gil(Shop.Held)

    Process.exit(owner, :kill)

    wait_until(fn -> Enum.filter(pids, &running?/1) == [] end)
  end

  test "a node that cannot be connected for too long ends" do
    server = start_python(name: Shop.Cut, reconnect_timeout: 1_000)
    {os_pid, node} = {Erlmesh.Python.os_pid(Shop.Cut), Erlmesh.Python.node_name(Shop.Cut)}
    monitor = Process.monitor(server)
    cookie = Node.get_cookie()
    on_exit(fn -> Node.set_cookie(node, cookie) end)

    log =
      capture_log(fn ->
        Node.set_cookie(node, :another)
        Node.disconnect(node)
        assert_receive {:DOWN, ^monitor, _, _, {%Erlmesh.ExitError{status: nil}, []}}, 60_000
      end)

    assert log =~ "it runs, but has not been connected for"
    wait_until(fn -> not running?(os_pid) end)
  end

  test "the end of the application ends the server normally" do
    server = start_python(name: Shop.Ends, app: "probe:stubborn", grace: 300)
    monitor = Process.monitor(server)
    os_pid = Erlmesh.Python.os_pid(Shop.Ends)

    System.cmd("kill", ["-TERM", "#{os_pid}"])

    assert_receive {:DOWN, ^monitor, _, _, :normal}, 60_000
  end

  test "an exit status that comes after the end of the guard counts" do
    server = start_python(name: Shop.Late)
    node = Erlmesh.Python.node_name(Shop.Late)
    {ended, 0} = System.cmd("/bin/sh", ["-c", "echo $$"])
    now = System.monotonic_time(:millisecond)
    monitor = Process.monitor(server)
    %{port: port, guard_pid: guard} = :sys.get_state(server)
    :sys.suspend(server)
    :sys.replace_state(server, &%{&1 | guard_pid: String.trim(ended), down_since: now})
    Node.disconnect(node)

    send(server, :reconnect)
    send(server, {port, {:exit_status, 0}})
    :sys.resume(server)

    assert_receive {:DOWN, ^monitor, _, _, :normal}, 60_000
    System.cmd("kill", ["-TERM", "#{guard}"])
    wait_until(fn -> not running?(guard) end)
  end
end
