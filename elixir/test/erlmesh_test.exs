defmodule ErlmeshTest do
  use Erlmesh.Case, async: true

  describe "a Python node" do
    setup context do
      :ok = Application.ensure_started(:logger)
      {:ok, _} = start_supervised(%{id: :pg, start: {:pg, :start_link, []}})
      start_python(name: Shop.Model, app: "probe:main", wait_for: :counter, grace: context[:grace] || 8_000)
      :ok
    end

    test "is connected, has its groups and answers calls as soon as it has started" do
      node = Erlmesh.Python.node_name(Shop.Model)

      assert node == :"#{Node.self() |> to_string() |> String.split("@") |> hd()}-shop_model@127.0.0.1"
      assert node in Node.list()
      assert GenServer.call({:counter, node}, :increment) == 1
      wait_until(fn -> :pg.get_members("counters") != [] end)
      assert Erlmesh.call(Shop.Model, "probe", "length", ["größe"]) == {:ok, 5}
      assert Erlmesh.call(node, :probe, :length, ["abc"]) == {:ok, 3}
      assert Erlmesh.call(Process.whereis(Shop.Model), :probe, :length, ["abc"]) == {:ok, 3}
      assert Erlmesh.call!(Shop.Model, "probe", "divide", [1, 2]) == 0.5
    end

    test "an error says what happened where" do
      node = Erlmesh.Python.node_name(Shop.Model)

      assert {:error, %Erlmesh.PythonError{type: :ZeroDivisionError, mfa: {:probe, :divide, 1}} = error} =
               Erlmesh.call(Shop.Model, "probe", "divide", [1])

      assert Exception.message(error) =~ ~r/\AZeroDivisionError: division by zero \(on #{node}\)\n    .*probe.py:\d+: /
      assert_raise Erlmesh.PythonError, fn -> Erlmesh.call!(Shop.Model, "probe", "divide", [1]) end
      assert {:error, %Erlmesh.CallError{reason: :undef} = error} = Erlmesh.call(Shop.Model, "probe", "missing", [1])
      assert Exception.message(error) =~ "probe.missing/1 is not exposed on #{node}"
      assert {:error, %Erlmesh.CallError{reason: :timeout}} = Erlmesh.call(Shop.Model, "probe", "wait", [2.0], 50)
      assert {:error, %Erlmesh.CallError{reason: :noconnection}} = Erlmesh.call(:"no@127.0.0.1", "probe", "length", [1])
      assert {:error, %Erlmesh.CallError{reason: :noproc} = error} = Erlmesh.call(Shop.Missing, "probe", "length", [1])
      assert Exception.message(error) =~ "Shop.Missing"
    end

    test "nobody can read the cookie" do
      cookie = Atom.to_string(Node.get_cookie())
      {node, guard, _} = Erlmesh.call!(Shop.Model, "probe", "pids")

      for pid <- [node, guard], file <- ["cmdline", "environ"] do
        assert not String.contains?(File.read!("/proc/#{pid}/#{file}"), cookie), "#{file} of #{pid}"
      end

      assert Erlmesh.Python.os_pid(Shop.Model) == node
      assert not Enum.any?(Erlmesh.call!(Shop.Model, "probe", "environment"), &String.contains?(&1, cookie))
    end

    test "its log lines arrive with their levels, several lines as one" do
      # The call is answered after the lines are written, and the log comes by another way.
      wait_until(fn ->
        log =
          capture_log(fn ->
            Erlmesh.call!(Shop.Model, "probe", "write_log")
            Process.sleep(100)
          end)

        log =~ ~r/\[warn(ing)?\] +two\nlines with \\ and \\n\n/ and log =~ ~r/\[info\] +printed\n/
      end)
    end

    test "log lines that come too fast are counted" do
      log =
        capture_log(fn ->
          :sys.suspend(Shop.Model)
          Erlmesh.call!(Shop.Model, "probe", "flood", [20_000], 60_000)
          :sys.resume(Shop.Model)
          wait_until(fn -> Enum.any?(:sys.get_state(Shop.Model, 60_000).log, &(&1 =~ "line 19999")) end)
        end)

      assert log =~ ~r/\d+ log lines of .* are dropped/
      assert not (log =~ ~r/line 1000\n/)
      assert log =~ ~r/line 19999\n/
    end

    @tag grace: 200
    test "log lines without end neither fill the mailbox nor delay the stop" do
      server = Process.whereis(Shop.Model)

      log =
        capture_log(fn ->
          # On a loaded machine Python writes no faster than Logger reads. So the server starts with what is too much.
          :sys.suspend(server)
          flood = Task.async(fn -> Erlmesh.call(Shop.Model, "probe", "flood", [0], 2_000) end)
          wait_until(fn -> Process.info(server, :message_queue_len) > {:message_queue_len, 3_000} end)
          :sys.resume(server)
          {:error, %{reason: :timeout}} = Task.await(flood, 60_000)
          wait_until(fn -> Process.info(server, :message_queue_len) < {:message_queue_len, 6_000} end)
          stop_supervised!(Shop.Model)
        end)

      assert log =~ ~r/\d+ log lines of .* are dropped/
    end

    test "nothing is left when it stops" do
      {node, guard, child} = Erlmesh.call!(Shop.Model, "probe", "pids")

      stop_supervised!(Shop.Model)

      assert Enum.filter([node, guard], &running?/1) == []
      wait_until(fn -> not running?(child) end)
    end

    test "its functions become functions of a module, with their parameters and documentation" do
      described = Erlmesh.Module.describe(Shop.Model, "probe")

      assert {:length, 1, ["text"], "Count the characters of a text.\n\n\"größe\" has 5 of them, and \"€\" has 1."} in described
      assert {:divide, 1, ["number"], nil} in described
      assert {:divide, 2, ["number", "by"], nil} in described
      assert {:echo_process, 1, ["tag"], "A process that answers calls."} in described

      assert_raise ArgumentError, ~r/no functions of a module other/, fn ->
        Erlmesh.Module.describe(Shop.Model, "other")
      end

      {:module, models, _, _} = Erlmesh.Module.define(Shop.Defined, python: Shop.Model, module: "probe")

      assert models.length("four") == 4
      assert_raise Erlmesh.PythonError, fn -> models.divide(1) end
      assert models.divide(1, 4) == 0.25
    end

    test "a module is compiled without Python, from a list or a file" do
      path = Path.join(System.tmp_dir!(), "erlmesh_functions_#{System.unique_integer([:positive])}")
      on_exit(fn -> File.rm(path) end)
      Code.put_compiler_option(:docs, true)
      not_functions = [{:"no name", 0, [], nil}, {:module_info, 0, [], nil}, {:f, 1, [:x], nil}, {:f, 300, [], nil}, :f]
      odd_parameters = [{:odd, 3, ["end", "_x", "x"], nil}, {:twice, 2, ["A", "a"], nil}]
      described = Erlmesh.Module.describe(Shop.Model, "probe")
      :ok = Erlmesh.Module.write!(not_functions ++ odd_parameters ++ described, path)

      [{from_list, _}, {from_file, code}, {from_node, _}] =
        Code.compile_string("""
        defmodule Shop.FromList do
          use Erlmesh.Module, python: Shop.Model, module: "probe", functions: [length: 1], timeout: 9_000
        end
        defmodule Shop.FromFile do
          use Erlmesh.Module, python: Shop.Model, module: "probe", from: #{inspect(path)}
        end
        defmodule Shop.FromNode do
          use Erlmesh.Module, python: Shop.Model, module: "probe", from: #{inspect(Erlmesh.Python.node_name(Shop.Model))}
        end
        """)

      assert from_list.length("ab") == 2
      assert from_node.length("abc") == 3
      assert from_file.divide(1, 2) == 0.5
      exported = from_file.__info__(:functions)
      assert {:odd, 3} in exported and {:twice, 2} in exported
      assert Keyword.keys(exported) -- Enum.map([{:odd}, {:twice} | described], &elem(&1, 0)) == []
      assert {:ok, {_, [{~c"Docs", docs}]}} = :beam_lib.chunks(code, [~c"Docs"])
      assert inspect(:erlang.binary_to_term(docs), limit: :infinity) =~ "Count the characters"
    end

    test "a child of a supervisor runs on it, and survives its restart" do
      start_supervised!({Erlmesh.Child, python: Shop.Model, start: {"probe", "echo_process", [:tag]}, name: Shop.Echo})

      assert Erlmesh.Child.call(Shop.Echo, :hello) == {:tag, :hello}
      {:ok, remote} = Erlmesh.Child.pid(Shop.Echo)
      assert node(remote) == Erlmesh.Python.node_name(Shop.Model)
      before = Process.whereis(Shop.Echo)

      stop_supervised!(Shop.Model)
      wait_until(fn -> Erlmesh.Child.pid(Shop.Echo) == {:error, :noconnection} end)
      assert {:noconnection, _} = catch_exit(Erlmesh.Child.call(Shop.Echo, :hello))
      start_python(name: Shop.Model, app: "probe:main", wait_for: :counter)

      wait_until(fn -> match?({:ok, _}, Erlmesh.Child.pid(Shop.Echo)) end)
      assert Process.whereis(Shop.Echo) == before
      assert Erlmesh.Child.call(Shop.Echo, :again) == {:tag, :again}

      monitor = Process.monitor(before)
      assert capture_log(fn -> Erlmesh.Child.call(Shop.Echo, :exit) end)
      assert_receive {:DOWN, ^monitor, _, _, {{:ValueError, "told to exit"}, _}}
      wait_until(fn -> Process.whereis(Shop.Echo) not in [nil, before] end)
      {:ok, remote} = Erlmesh.Child.pid(Shop.Echo)
      monitor = Process.monitor(remote)
      stop_supervised!(Shop.Echo)
      assert_receive {:DOWN, ^monitor, _, _, :shutdown}
    end

    test "telemetry gets events" do
      Code.compile_string("""
      defmodule :telemetry do
        def execute(event, measurements, metadata) do
          if Process.whereis(:telemetry_probe), do: send(:telemetry_probe, {event, measurements, metadata})
        end
      end
      """)

      on_exit(fn -> :code.delete(:telemetry) and :code.purge(:telemetry) end)
      Process.register(self(), :telemetry_probe)

      Erlmesh.call(Shop.Model, "probe", "length", ["a"])
      Erlmesh.call(Shop.Model, "probe", "missing")

      assert_receive {[:erlmesh, :call, :stop], %{duration: _}, %{module: :probe, function: :length, arity: 1}}
      assert_receive {[:erlmesh, :call, :exception], %{duration: _}, %{function: :missing, error: %{reason: :undef}}}

      node = Erlmesh.Python.node_name(Shop.Model)
      Node.disconnect(node)
      assert_receive {[:erlmesh, :python, :nodedown], %{system_time: _}, %{node: ^node}}
      assert_receive {[:erlmesh, :python, :nodeup], %{system_time: _}, %{node: ^node}}
      assert Erlmesh.call(Shop.Model, "probe", "length", ["a"]) == {:ok, 1}

      stop_supervised!(Shop.Model)
      assert_receive {[:erlmesh, :python, :stop], %{duration: _}, %{node: ^node, reason: :shutdown}}
    end
  end

  test "a start returns when the groups of this node are known" do
    start_supervised!(%{id: :pg, start: {:pg, :start_link, []}})
    :ok = :pg.join("beams", self())
    :sys.suspend(:pg)

    start =
      Task.async(fn ->
        {:ok, server} = Erlmesh.Python.start_link(options(name: Shop.Slow, node: "slow"))
        members = Erlmesh.call!(Shop.Slow, "probe", "members", ["beams"])
        GenServer.stop(server)
        members
      end)

    wait_until(fn -> Erlmesh.call(:"slow@127.0.0.1", "probe", "members", ["beams"]) == {:ok, 0} end)
    Erlmesh.call(:"slow@127.0.0.1", "probe", "wait", [0.1])
    assert Task.yield(start, 0) == nil

    :sys.resume(:pg)

    assert Task.await(start, 60_000) == 1
  end

  test "a hidden node is connected, and nodes() does not show it" do
    start_python(name: Shop.Hidden, hidden: true, node: "secret")

    assert Erlmesh.Python.node_name(Shop.Hidden) == :"secret@127.0.0.1"
    assert :"secret@127.0.0.1" in Node.list(:hidden)
    assert Erlmesh.call(Shop.Hidden, "probe", "length", ["abc"]) == {:ok, 3}
  end
end
