"""The modules of OTP and Elixir in the shell answer as in iex. tests/otp/test_shell_otp.py asks iex itself."""

import asyncio
import re
import sys

import pytest
from shell_harness import with_shell, with_two_shells

from erlmesh import GenServer
from erlmesh.shell.commands import Module, commands_of
from erlmesh.shell.function_hints import function_hint
from skips import import_or_skip

PID = r"#PID<0\.\d+\.0>"
NO_PROCESS = "no process: it is not alive, or no process has that name"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("Node.get_cookie", ":cookie"),
        ("Process.whereis(:nope)", "nil"),
        ("Process.alive?(self())", "true"),
        ("Process.info(self(), :message_queue_len)", "{:message_queue_len, 0}"),
        ("Process.info(self(), [:registered_name, :status])", "[registered_name: [], status: :running]"),
        ("Process.info(pid(0,9999,0))", "nil"),
        ("Process.info(pid(0,9999,0), :links)", "nil"),
        ("Process.exit(pid(0,9999,0), :kill)", "true"),
        (":erpc.call(node(), :erlang, :node, [])", ':"socrates@127.0.0.1"'),
        (":erpc.cast(node(), :erlang, :node, [])", ":ok"),
        (":rpc.call(node(), :erlang, :nope, [])", "{:badrpc, {:EXIT, {:undef, [{:erlang, :nope, [], []}]}}}"),
        (":rpc.cast(node(), :erlang, :node, [])", "true"),
        (":rpc.block_call(node(), :erlang, :node, [])", ':"socrates@127.0.0.1"'),
        (":net_adm.ping(node())", ":pong"),
        (":pg.which_local_groups", "[]"),
        (":global.send(:nothing, :m)", "** (exit) {:badarg, {:nothing, :m}}: no process has that name"),
        ("GenServer.call(:nope, :x)", f"** (exit) exited in: GenServer.call(:nope, :x, 5000): {NO_PROCESS}"),
        ("GenServer.call(:net_kernel, :x, :infinity)", "{:error, :notsup}"),
        ("GenServer.cast(:nope, :x)", ":ok"),
        ("GenServer.whereis(:nope)", "nil"),
        ("GenServer.stop(:nope)", f"** (exit) exited in: GenServer.stop(:nope): {NO_PROCESS}"),
        ("GenServer.reply(1, 2)", "** (TypeError) GenServer.reply takes the second element of a call, not 1"),
        ("GenServer.multi_call(:net_kernel, {:is_auth, node()})", '{["socrates@127.0.0.1": :yes], []}'),
        ("GenServer.multi_call([node()], :nope, :x)", '{[], [:"socrates@127.0.0.1"]}'),
        (":erpc.multicall([node()], :erlang, :node, [])", '[ok: :"socrates@127.0.0.1"]'),
        (":erpc.multicall([:nobody], :erlang, :node, [])", "[error: {:erpc, :noconnection}]"),
        (":erpc.multicall([node()], :erlang, :nope, [])", "[error: {:exception, :undef, [{:erlang, :nope, [], []}]}]"),
        (":rpc.multicall([node(), :nobody], :erlang, :node, [])",
         '{[:"socrates@127.0.0.1"], [:"nobody@127.0.0.1"]}'),
        (":rpc.multicall([node()], :erlang, :nope, [])",
         "{[badrpc: {:EXIT, {:undef, [{:erlang, :nope, [], []}]}}], []}"),
        ("Node.list(:hidden)", "[]"),
        ("Node.list(:known)", '[:"socrates@127.0.0.1"]'),
        ("Node.set_cookie(:secret)", "true"),
        ("Node.set_cookie(:plato, :secret)", "true"),
        ("Node.monitor(:nobody, true)", "true"),
        ("Node.monitor(node(), false)", "true"),
        ("Node.monitor(:plato, 1)", "** (TypeError) Node.monitor takes true or false, not 1"),
        ("Process.unalias(Process.alias())", "true"),
        ("Process.read_timer(Process.alias())", "false"),
        (":net_kernel.monitor_nodes(true)", ":ok"),
        (":net_kernel.monitor_nodes(true, [{:node_type, :all}])", ":ok"),
        (":net_kernel.get_net_ticktime", "60"),
        (":net_kernel.connect_node(node())", "true"),
        (":sys.get_state(:nope)", f"** (exit) exited in: :sys.get_state(:nope): {NO_PROCESS}"),
        (":erlang.whereis(:nope)", ":undefined"),
        (":erlang.nodes", "[]"),
        (":erlang.process_info(self(), :message_queue_len)", "{:message_queue_len, 0}"),
        ("Process.send(self(), :a, [])", ":ok"),
        ("Process.unregister(:nope)", "** (ValueError) no process is registered here as :nope"),
    ],
)  # fmt: skip
def test_a_call_has_the_answer_of_iex(line, answer):
    @with_shell
    async def test(shell):
        assert await shell(line) == answer

    test()


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("true", "true"),
        ("[true, 1]", "[true, 1]"),
        ("{:a, false}", "{:a, false}"),
        ("Node.alive?", "true"),
        ("x = true", ""),
        ("not true", "false"),
        ("1 == 1", "True"),
        ('"true" == "x"', "False"),
        ("[True]", "[True]"),
        ("(lambda: True)()", "True"),
        ("None", ""),
    ],
)
def test_a_bool_looks_as_the_line_that_made_it(line, answer):
    @with_shell
    async def test(shell):
        assert await shell(line) == answer

    test()


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("Node.stop()", "exit() leaves the shell"),
        ("Process.put(:a, 1)", "use a variable"),
        ("GenServer.start_link(1, 2)", "`erlmesh.GenServer`"),
        (":global.trans({:a, self()}, 1)", "global_.set_lock"),
        (":net_kernel.set_net_ticktime(5)", "--net-ticktime"),
        (":net_adm.world", "--discover"),
        (":erpc.send_request(node(), :erlang, :node, [])", "asyncio.create_task"),
        (":rpc.pmap(1, 2, 3)", "asyncio.gather"),
        (":sys.replace_state(:a, 1)", "cannot be sent"),
        (":erlang.halt()", "exit() leaves the shell"),
        (":timer.sleep(5)", "Process.sleep(ms)"),
        (":ets.new(:a, [])", "a dict"),
        (":observer.start()", "`observe`"),
        ("Registry.lookup(1, 2)", "register(:name, pid)"),
        ("Task.async(1)", "asyncio.create_task"),
        ("Logger.info(1)", "logging"),
        ("DynamicSupervisor.start_child(1, 2)", "`erlmesh.Supervisor`"),
    ],
)
def test_a_function_that_is_missing_says_the_form_of_python(line, hint):
    @with_shell
    async def test(shell):
        answer = await shell(line)
        assert hint in answer
        assert "\n" not in answer

    test()


def test_a_hint_is_never_for_a_function_that_exists():
    @with_shell
    async def test(shell):
        for name, module in shell.session.namespace.items():
            if isinstance(module, Module):
                assert [each for each in commands_of(module) if function_hint(name, each)] == []

    test()


@with_two_shells
async def test_node_monitors_send_nodedown_to_the_shell(socrates, plato):
    await socrates('Node.ping(:"plato@127.0.0.1")')
    await socrates("Node.monitor(:plato, true)", "Node.monitor(:plato, true)", "Node.monitor(:plato, false)")
    await socrates(":net_kernel.monitor_nodes(true)")

    plato.session.close()
    await plato.node.stop()

    found = {await socrates("receive(5)"), await socrates("receive(5)")}
    assert found == {'{:nodedown, :"plato@127.0.0.1"}'}
    assert "no message arrived" in await socrates("receive(0)")
    assert (await socrates("Node.monitor(:plato, true)")).startswith("true")
    assert await socrates("receive(5)") == '{:nodedown, :"plato@127.0.0.1"}'


@with_two_shells
async def test_processes_are_started_on_other_nodes_with_links_and_monitors(socrates, plato):
    plato.node.expose(lambda: 1, as_="shop")
    await socrates('Node.ping(:"plato@127.0.0.1")', "Process.flag(:trap_exit, true)")

    assert re.fullmatch(
        r"\{#PID<\d+\.\d+\.0>, #Reference<\S+>\}", await socrates("Node.spawn_monitor(:plato, :a, :b, [])")
    )
    assert (await socrates("receive(5)")).startswith("{:DOWN, ")
    assert re.fullmatch(r"#PID<\d+\.\d+\.0>", await socrates("Node.spawn_link(:plato, :a, :b, [])"))
    assert (await socrates("receive(5)")).startswith("{:EXIT, ")


class Counter(GenServer):
    def handle_call(self, request, caller):
        return 5


@with_shell
async def test_sys_asks_servers(shell):
    await Counter.start(shell.node, name="counter")

    assert await shell(":sys.suspend(:counter)") == ":ok"
    assert "GenServer.call" in await shell("GenServer.call(:counter, :get, 10)")
    assert await shell(":sys.resume(:counter)") == ":ok"
    assert await shell("GenServer.call(:counter, :get)") == "5"
    assert ":status" in await shell(":sys.get_status(:counter)")
    assert await shell(":sys.statistics(:counter, true)") == ":ok"
    assert (await shell(":sys.statistics(:counter, :get)")).startswith("{:ok, [start_time:")
    assert await shell(":sys.terminate(:counter, :normal)") == ":ok"
    assert await shell("flush") == ":ok"


@with_shell
async def test_errors_name_the_mistake(shell):
    answer = await shell(":erpc.call(node(), :erlang, :nope, [])")
    assert answer.startswith(
        "** (ErlangError) {:exception, :undef, [{:erlang, :nope, [], []}]}: socrates@127.0.0.1 has no"
    )
    answer = await shell(':erpc.call(:"nope@127.0.0.1", :erlang, :node, [])')
    assert answer.startswith("** (ErlangError) {:erpc, :noconnection}: no connection to nope@127.0.0.1")
    assert "a function of Python" in await shell(":erpc.call(node(), lambda: 1)")
    assert "a list of arguments" in await shell(":rpc.call(node(), :erlang, :node)")
    assert "number of milliseconds or :infinity" in await shell('GenServer.call(:rex, 1, "a")')
    assert "a process has no item :nope" in await shell("Process.info(self, :nope)")
    assert "pg.start_link(:nope) starts it" in await shell(":pg.which_groups(:nope)")


@with_shell
async def test_timers_and_servers_of_this_node(shell):
    await shell("Process.send_after(self, :late, 5)", "ref = Process.send_after(self, :never, 60000)")

    assert int(await shell("Process.cancel_timer(ref)")) > 50_000
    assert await shell("Process.cancel_timer(ref)") == "false"
    assert await shell("receive(5)") == ":late"
    await shell("p = spawn(lambda me: me.receive())")
    assert await shell("GenServer.stop(p)") == ":ok"
    assert await shell("Process.alive?(p)") == "false"
    assert await shell("flush") == ":ok"


@with_shell
async def test_pg_takes_a_scope_and_monitors_groups(shell):
    pid = await shell("self")

    assert re.fullmatch(rf"\{{:ok, {PID}\}}", await shell(":pg.start_link(:other)"))
    assert re.fullmatch(rf"\{{:error, \{{:already_started, {PID}\}}\}}", await shell(":pg.start(:other)"))
    assert await shell(":pg.join(:other, :g, self)") == ":ok"
    assert await shell(":pg.get_members(:other, :g)") == f"[{pid}]"
    assert await shell(":pg.get_members(:g)") == "[]"
    await shell("monitor_ref = :pg.monitor(:g)[0]", ":pg.join(:g, self)")
    assert (await shell("receive(5)")).endswith(f", :join, :g, [{pid}]}}")
    assert await shell(":pg.demonitor(monitor_ref)") == ":ok"


@with_two_shells
async def test_i_and_tables_show_processes_of_other_nodes(socrates, plato):
    await plato("register(:thinker)", ":pg.join(:g, self)")
    await socrates('Node.ping(:"plato@127.0.0.1")')
    await socrates.wait_for_answer("length(pg.get_members(:g))", "1")

    shown = await socrates("i(pg.get_members(:g)[0])")

    assert re.search(r"^alive +yes, waiting$", shown, re.MULTILINE)
    assert re.search(r"^registered +:thinker$", shown, re.MULTILINE)
    assert re.search(r"^groups +pg :g$", shown, re.MULTILINE)
    assert "Process.alive? is for processes of this node" in await socrates("Process.alive?(pg.get_members(:g)[0])")
    header, row = (await socrates("nodes")).split("\n")
    assert header.split() == ["node", "silent", "waiting", "state"]
    assert re.fullmatch(r"plato@127\.0\.0\.1 +\d+ s +\d+ B  up", row)
    assert await socrates("nodes[0]") == ':"plato@127.0.0.1"'
    assert "plato 1" in await socrates("groups()")
    assert await socrates("send(pg.get_members(:g)[0], nodes)") != ""
    assert await plato("receive(5)") == '[:"plato@127.0.0.1"]'


@with_shell
async def test_pids_are_a_table_of_the_first_processes(shell):
    await shell("for each in range(60): spawn(lambda me: me.receive())")

    lines = (await shell("pids")).split("\n")

    assert lines[0].split() == ["pid", "name", "runs", "messages", "waits", "in"]
    assert len(lines) == 52
    assert re.fullmatch(r"… and \d+ more", lines[-1])
    assert int(await shell("length(processes())")) >= 70
    assert re.fullmatch(PID, await shell("pids()[-1]"))


@with_shell
async def test_observe_serves_the_map_until_the_shell_ends(shell):
    import_or_skip("h11")

    text = await shell("observe")

    assert re.fullmatch(r"the map of the cluster is at http://127\.0\.0\.1:\d+/ until this shell ends", text)
    assert await shell("observe()") == text
    port = int(re.search(r":(\d+)/", text)[1])
    await shell("exit(self, :kill)")
    async with asyncio.timeout(5):
        while await accepts(port):
            await asyncio.sleep(0.01)
    assert (await shell("observe")).startswith("the map of the cluster is at")


async def accepts(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@with_shell
async def test_observe_says_what_to_install(shell):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "h11", None)
        for name in [
            each for each in sys.modules if each.startswith(("erlmesh.web.server", "erlmesh.web.http_request"))
        ]:
            patch.delitem(sys.modules, name)

        answer = await shell("observe")

    assert answer.startswith("** (NodeStartError)")
    assert "erlmesh[web]" in answer
    assert "\n" not in answer
