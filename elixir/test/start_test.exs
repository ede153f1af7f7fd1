defmodule Erlmesh.StartTest do
  use Erlmesh.Case, async: true

  describe "a start that fails" do
    setup do
      Process.flag(:trap_exit, true)
      :ok
    end

    defp failure(more) do
      parent = self()
      capture_log(fn -> send(parent, {:result, Erlmesh.Python.start_link(options(more))}) end)
      assert_received {:result, {:error, {%Erlmesh.StartError{} = error, []}}}
      Exception.message(error)
    end

    test "says why" do
      # The programs read the cookie. One that ends before it is written may get no chance to say why.
      assert failure(expose: ["no_such_module"]) =~ ~r/exit status 2\n.*last lines.*\n.*cannot import no_such_module/
      assert failure(python: "/no/such/python") =~ "there is no program /no/such/python"
      assert failure(cd: "/no/such/folder") == "there is no folder /no/such/folder (cd:)"
      without = ["/bin/sh", "-c", "read _; echo /usr/bin/python3: No module named erlmesh; exit 1"]
      assert failure(python: without) =~ ~r/No module named erlmesh\nGive the path of a Python that has erlmesh/
      assert failure(python: ["/bin/sh", "-c", "read _; echo oh no; exit 3"]) =~ ~r/exit status 3.*\n    oh no/s
      assert failure(app: "probe:ends") =~ ~r/exit status 1.*the application failed/s
      assert failure(args: ["--join", "nobody@127.0.0.1"]) =~ ~r/exit status 1.*knows no node 'nobody'/s
      assert failure(python: ["/bin/sh", "-c", "read _; sleep 600 x"]) =~ "exit status 1"
      assert failure(python: ["/bin/sh", "-c", "exec sleep 600"], start_timeout: 200) =~ "not ready in time"
    end
  end

  test "a line without an end hides no event, and no variable has the cookie" do
    cookie = Atom.to_string(Node.get_cookie())
    before = System.get_env("ERL_AFLAGS")
    System.put_env("ERL_AFLAGS", "-setcookie #{cookie}")

    on_exit(fn ->
      if before, do: System.put_env("ERL_AFLAGS", before), else: System.delete_env("ERL_AFLAGS")
    end)

    log = capture_log(fn -> start_python(name: Shop.Unfinished, app: "probe:unfinished_line") end)

    assert log =~ "loading ...\n"
    assert not Enum.any?(Erlmesh.call!(Shop.Unfinished, "probe", "environment"), &String.contains?(&1, cookie))
  end

  test "a call during the first start waits for it, or says that it still starts" do
    [early, patient] =
      for timeout <- [1, 30_000] do
        Task.async(fn ->
          wait_until(fn -> Process.whereis(Shop.Early) != nil end)
          Erlmesh.call(Shop.Early, "probe", "length", ["abc"], timeout)
        end)
      end

    start_python(name: Shop.Early, app: "probe:main", wait_for: :counter)

    assert {:error, %Erlmesh.CallError{reason: :noconnection} = error} = Task.await(early, 60_000)
    assert Exception.message(error) == "Shop.Early still starts its Python node: it was not ready within 1 ms"
    assert Task.await(patient, 60_000) == {:ok, 3}
  end

  test "a call during a start that fails says why" do
    Process.flag(:trap_exit, true)
    options = options(name: Shop.Fails, python: ["/bin/sh", "-c", "read _; sleep 2; exit 3"])

    call =
      Task.async(fn ->
        wait_until(fn -> Process.whereis(Shop.Fails) != nil end)
        Erlmesh.call(Shop.Fails, "probe", "length", ["abc"], 60_000)
      end)

    capture_log(fn -> assert {:error, _} = Erlmesh.Python.start_link(options) end)

    assert {:error, %Erlmesh.CallError{reason: :noconnection} = error} = Task.await(call, 60_000)
    assert Exception.message(error) =~ "Shop.Fails has ended: the Python node"
    assert Exception.message(error) =~ "exit status 3"
  end
end
