"""The modules of OTP and Elixir in the shell answer as in iex. tests/otp/test_shell_otp.py asks iex itself."""

import asyncio
import re

import pytest
from shell_harness import with_shell, with_two_shells

PID = r"#PID<0\.\d+\.0>"
NO_PROCESS = "no process: it is not alive, or no process has that name"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("Node.get_cookie", ":cookie"),
        ("Process.whereis(:nope)", "nil"),
        ("Process.alive?(self())", "True"),
        ("Process.info(self(), :message_queue_len)", "{:message_queue_len, 0}"),
        ("Process.info(self(), [:registered_name, :status])", "[registered_name: [], status: :running]"),
        ("Process.info(pid(0,9999,0))", "nil"),
        ("Process.info(pid(0,9999,0), :links)", "nil"),
        ("Process.exit(pid(0,9999,0), :kill)", "True"),
        (":erpc.call(node(), :erlang, :node, [])", ':"socrates@127.0.0.1"'),
        (":erpc.cast(node(), :erlang, :node, [])", ":ok"),
        (":rpc.call(node(), :erlang, :nope, [])", "{:badrpc, {:EXIT, {:undef, [{:erlang, :nope, [], []}]}}}"),
        (":rpc.cast(node(), :erlang, :node, [])", "True"),
        (":rpc.block_call(node(), :erlang, :node, [])", ':"socrates@127.0.0.1"'),
        (":net_adm.ping(node())", ":pong"),
        (":pg.which_local_groups", "[]"),
        (":global.send(:nothing, :m)", "** (exit) {:badarg, {:nothing, :m}}: no process has that name"),
        ("GenServer.call(:nope, :x)", f"** (exit) exited in: GenServer.call(:nope, :x, 5000): {NO_PROCESS}"),
        ("GenServer.call(:net_kernel, :x, :infinity)", "{:error, :notsup}"),
        ("GenServer.cast(:nope, :x)", ":ok"),
        ("GenServer.whereis(:nope)", "nil"),
        ("GenServer.stop(:nope)", f"** (exit) exited in: GenServer.stop(:nope): {NO_PROCESS}"),
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
    assert await shell("Process.cancel_timer(ref)") == "False"
    assert await shell("receive(5)") == ":late"
    await shell("p = spawn(lambda me: me.receive())")
    assert await shell("GenServer.stop(p)") == ":ok"
    assert await shell("Process.alive?(p)") == "False"
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
