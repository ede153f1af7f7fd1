"""The output of lines: commands on one node, and on two connected nodes."""

import asyncio
import re
import signal
import threading
import time

import pytest
from shell_harness import open_shells, with_shell, with_two_shells

from erlmesh.core import loop_watchdog
from erlmesh.shell.interrupts import Interrupts
from erlmesh.terms import Atom

PID = r"#PID<0\.\d+\.0>"


# Node and process


@with_shell
async def test_self_and_node_names_work_with_and_without_parentheses(shell):
    pid = await shell("self()")

    assert re.fullmatch(PID, pid)
    assert await shell("self") == pid
    assert await shell("Node.self") == await shell("Node.self()") == ':"socrates@127.0.0.1"'
    assert await shell("Node.list") == "[]"
    assert await shell("node()") == await shell("node(self)") == ':"socrates@127.0.0.1"'


@with_shell
async def test_the_prompt_shows_the_node_and_counts_the_lines(shell):
    assert shell.session.prompt == "py(socrates@127.0.0.1)1> "

    await shell("1", "1/0", "")

    assert shell.session.prompt == "py(socrates@127.0.0.1)3> "


@with_shell
async def test_a_printed_pid_can_be_typed_back(shell):
    printed = await shell("self")

    assert await shell(printed) == printed
    assert await shell(f'pid("{printed[5:-1]}") == self') == "True"
    assert await shell(f"pid(0, {printed[5:-1].split('.')[1]}, 0) == self") == "True"
    assert "three numbers" in await shell('pid("0.64")')
    assert "no pid that begins with 999" in await shell('pid("999.64.0")')


# Values


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("1 + 1", "2"),
        ("'a'", "'a'"),
        ("b'a'", "b'a'"),
        ("1 == 1", "True"),
        ("None", ""),
        ("x = 3", ""),
        (":a", ":a"),
        ("{:ok, [1, true]}", "{:ok, [1, true]}"),
        ("{:a, 'text'}", '{:a, "text"}'),
        ("[Atom('b'), {}, ()]", "[:b, %{}, {}]"),
        ("%{a: 1}", "%{a: 1}"),
        ("nil", "nil"),
        ("[1, 2]", "[1, 2]"),
        ("length([:a, :b])", "2"),
    ],
)
def test_values_print_as_in_iex_or_python(line, output):
    @with_shell
    async def test(shell):
        assert await shell(line) == output

    test()


@with_shell
async def test_earlier_results_can_be_recalled(shell):
    await shell("40", "x = 1", "{:ok, 2}")

    assert await shell("_") == "{:ok, 2}"
    assert await shell("v(1)") == "40"
    assert await shell("v(3)") == "{:ok, 2}"
    assert "has no stored value" in await shell("v(2)")


@with_shell
async def test_coroutines_are_awaited_and_tasks_are_not(shell):
    assert await shell("import asyncio", "asyncio.sleep(0, 5)") == "5"
    assert await shell("await asyncio.sleep(0, 6)") == "6"
    assert await shell("asyncio.gather(asyncio.sleep(0, 7))") == "[7]"
    assert "Task" in await shell("t = asyncio.create_task(asyncio.sleep(60))", "t")
    await shell("t.cancel()")


@with_shell
async def test_a_statement_may_have_several_lines(shell):
    await shell("async def double(x):\n    return 2 * x\n")

    assert await shell("double(4)") == "8"
    assert await shell("for n in range(2):\n    print(n)") == ""
    assert await shell("x = 1; y = 2; {:sum, x + y}") == "{:sum, 3}"


# Errors


@with_shell
async def test_an_error_is_one_line(shell):
    assert await shell("1/0") == "** (ZeroDivisionError) division by zero"
    assert await shell("nothing") == "** (NameError) name 'nothing' is not defined"
    assert await shell("{}['a']") == "** (KeyError) no such key: 'a'"
    assert await shell("exit(:boom)") == "** (Exit) :boom"
    assert await shell("raise ValueError('two\\nlines')") == "** (ValueError) two\nlines"


@with_shell
async def test_a_traceback_shows_only_the_users_code(shell):
    await shell("def f():\n    return 1/0\n")

    assert await shell("f()") == (
        "** (ZeroDivisionError) division by zero\n    <py 2>:1: f()\n    <py 1>:2 in f: return 1/0"
    )
    assert await shell("pg.join(:g, 5)") == "** (TypeError) members are pids, not int: 5"


@with_shell
async def test_a_syntax_error_points_at_the_line_as_typed(shell):
    assert await shell("1 +* :a") == "** (SyntaxError) invalid syntax\n    1 +* :a\n       ^"
    answer = await shell("x = (1 +* 2)")
    assert answer == "** (SyntaxError) invalid syntax\n    x = (1 +* 2)\n            ^"
    assert (await shell("(1,")).startswith("** (SyntaxError) the line ends too early")


@with_shell
async def test_an_error_does_not_end_the_shells_process(shell):
    pid = await shell("self")

    await shell("1/0")

    assert await shell("self") == pid


# Messages


@with_shell
async def test_messages_can_be_sent_flushed_and_received(shell):
    assert await shell('send(self, {:hello, "x"})') == '{:hello, "x"}'
    await shell("send self, 2")
    assert await shell("flush") == '{:hello, "x"}\n2\n:ok'
    assert await shell("flush()") == ":ok"
    await shell("send(self, :three)")
    assert await shell("receive()") == ":three"
    assert await shell("receive(0)") == "** (TimeoutError) no message arrived within 0 s"


@with_shell
async def test_an_invalid_destination_names_the_valid_ones(shell):
    assert "messages go to a pid" in await shell("send(5, :x)")
    assert (await shell("send(:nobody, :x)")).startswith("** (ValueError)")


@with_shell
async def test_spawned_functions_of_every_kind_run(shell):
    await shell("async def echo(me):\n    me.send(await me.receive(), Atom('echo'))\n")
    await shell("p = spawn(echo)", "send(p, self)")
    assert await shell("receive(5)") == ":echo"
    await shell("spawn(lambda: send(me.pid, Atom('plain')))")
    assert await shell("receive(5)") == ":plain"
    await shell("spawn(lambda me, x: me.send(x, Atom('given')), self)")
    assert await shell("receive(5)") == ":given"
    await shell("monitor(spawn(exit))")
    assert re.fullmatch(rf"\{{:DOWN, #Reference<.*>, :process, {PID}, :(normal|noproc)\}}", await shell("receive(5)"))
    assert await shell("1") == "1"
    assert await shell("spawn(3)") == "** (TypeError) spawn takes a function, not int"


@with_shell
async def test_processes_can_be_registered(shell):
    assert await shell("register(:me)") == "true"
    assert await shell("whereis(:me) == self") == "True"
    await shell("send(:me, 1)")
    assert await shell("receive(0)") == "1"
    assert await shell("whereis(:you)") == "nil"
    assert ":me" in await shell("Process.registered")
    assert await shell("Process.unregister(:me)") == "true"
    assert (await shell("whereis(5)")).startswith("** (TypeError) a name is an atom")


# Groups


@with_shell
async def test_the_lines_of_the_post_work_unchanged(shell):
    pid = await shell("self")

    assert re.fullmatch(rf"\{{:ok, {PID}\}}", await shell(":pg2.start()"))
    assert await shell(":pg2.get_members(:group)") == "{:error, {:no_such_group, :group}}"
    assert await shell(":pg2.join(:group, self)") == "{:error, {:no_such_group, :group}}"
    assert await shell(":pg2.create(:group)") == ":ok"
    assert await shell(":pg2.get_closest_pid(:group)") == "{:error, {:no_process, :group}}"
    assert await shell(":pg2.join(:group, self)") == ":ok"
    assert await shell(":pg2.get_members(:group)") == f"[{pid}]"
    assert await shell(":pg2.get_local_members :group") == f"[{pid}]"
    assert await shell(":pg2.get_closest_pid(:group)") == pid
    assert await shell(":pg2.which_groups") == "[:group]"
    assert await shell(":pg2.leave(:group, self)") == ":ok"
    assert await shell(":pg2.leave(:none, self)") == "{:error, {:no_such_group, :none}}"
    assert await shell(":pg2.delete(:group)") == ":ok"


@with_shell
async def test_pg_returns_the_values_of_otp(shell):
    pid = await shell("self")

    assert await shell(":pg.join(:g, self)") == ":ok"
    assert await shell("pg.get_members(Atom('g'))") == f"[{pid}]"
    assert await shell("pg.get_local_members(:g)") == f"[{pid}]"
    assert await shell(":pg.which_groups") == "[:g]"
    assert await shell("groups") == (
        f"kind  group  members  nodes       processes\npg    :g           1  socrates 1  {pid}"
    )
    assert await shell("groups[0]") == f"{{:pg, :g, [{pid}]}}"
    assert await shell(":pg.leave(:g, self)") == ":ok"
    assert await shell(":pg.leave(:g, self)") == ":not_joined"
    assert (await shell("groups")).startswith("no groups yet")


@with_shell
async def test_global_names_can_be_registered(shell):
    assert await shell(":global.whereis_name(:x)") == ":undefined"
    assert await shell(":global.register_name(:x, self)") == ":yes"
    assert await shell(":global.register_name(:x, self)") == ":no"
    assert await shell("global_.whereis_name(:x) == self") == "True"
    assert await shell("global_.registered_names") == "[:x]"
    assert await shell(":global.unregister_name(:x)") == ":ok"


# Two nodes


@with_two_shells
async def test_two_shells_connect_and_exchange_messages(socrates, plato):
    assert await socrates('Node.ping(:"plato@127.0.0.1")') == ":pong"
    assert await socrates("Node.list") == '[:"plato@127.0.0.1"]'
    await plato.wait_for_answer("Node.list", '[:"socrates@127.0.0.1"]')
    for shell in (socrates, plato):
        await shell(":pg.join(:g, self)")
    await socrates.wait_for_answer("length(pg.get_members(:g))", "2")
    await socrates("for p in pg.get_members(Atom('g')): send(p, {:hi, self})")
    assert (await plato("receive(5)")).startswith("{:hi, #PID<")
    assert await socrates("rpc.call(:plato, :erlang, :node, [])") == ':"plato@127.0.0.1"'
    assert await socrates("Node.disconnect(:plato)") == "true"
    assert await socrates("Node.list") == "[]"
    assert await socrates("Node.connect(:plato)") == "true"


@with_two_shells
async def test_a_ping_inside_an_expression_is_awaited(socrates, plato):
    assert await socrates("x = Node.ping(:plato)", "x") == ":pong"
    assert await socrates("[Node.ping(n) for n in [:plato, Node.self]]") == "[:pong, :pong]"
    assert await socrates("await Node.ping(:plato) == :pong") == "True"


@with_shell
async def test_pang_prints_the_reason(shell):
    answer = await shell("Node.ping :nobody")

    assert answer.startswith(":pang\n   ")
    assert "nobody" in answer
    assert (await shell("Node.connect(:nobody)")).startswith("false\n   ")


@with_two_shells
async def test_a_remote_pid_can_be_typed_as_printed(socrates, plato):
    await plato(":pg.join(:g, self)")
    await socrates("Node.ping :plato")
    await socrates.wait_for_answer("length(pg.get_members(:g))", "1")
    printed = (await socrates("pg.get_members(:g)[0]")).strip()

    assert await socrates(f"{printed} == pg.get_members(:g)[0]") == "True"


# The shell's process


@with_shell
async def test_a_killed_shell_process_is_replaced_and_names_stay_bound(shell):
    pid = await shell("x = 7", "self")
    await shell(":pg.join(:g, self)")

    notice = await shell("exit(self, :kill)")

    assert notice.startswith(f"** (EXIT from {pid}) the shell's process exited: :killed\n")
    assert await shell("self") != pid
    assert await shell("x") == "7"
    assert await shell("pg.get_members(:g)") == "[]"
    assert await shell("me.pid == self") == "True"


@with_shell
async def test_a_shell_process_killed_while_idle_is_replaced_at_once(shell):
    pid = await shell.session.start()

    shell.node.exit(pid, Atom("kill"))
    await shell.wait_for_error_output("(EXIT from")

    assert await shell("me.pid == self") == "True"
    assert shell.session.namespace["me"].pid != pid


@with_shell
async def test_a_failing_linked_process_ends_the_shells_process(shell):
    pid = await shell("self")

    notice = await shell("spawn_link(lambda: exit(:bad)); receive()")

    assert notice.startswith(f"** (EXIT from {pid}) the shell's process exited: :bad")
    assert await shell("1") == "1"


@with_shell
async def test_trapped_exit_signals_become_messages(shell):
    assert await shell("Process.flag(:trap_exit, true)") == "false"
    await shell("p = spawn_link(lambda: exit(:bad))")

    assert re.fullmatch(rf"\{{:EXIT, {PID}, :bad\}}", await shell("receive(5)"))


@with_shell
async def test_exit_sets_the_exit_code_and_keeps_the_node_running(shell):
    await shell("exit()")
    assert shell.session.exit_code == 0
    await shell("import sys", "sys.exit(3)")
    assert shell.session.exit_code == 3
    await shell("exit")
    assert shell.session.exit_code == 0
    assert await shell("Node.self") == ':"socrates@127.0.0.1"'


# Help


@with_shell
async def test_help_documents_the_shell_modules_commands_and_other_values(shell):
    assert "Node.ping" in await shell("h")
    assert await shell("h()") == await shell("h")
    assert "get_members(group)" in await shell("h(pg)")
    assert (await shell("h(Node.ping)")).startswith("Node.ping(name")
    assert (await shell("h(self)")).startswith("self()")
    assert (await shell("h(len)")).startswith("len(")


@with_shell
async def test_i_shows_a_process(shell):
    await shell(":pg.join(:g, self)", "register(:me)")

    info = await shell("i")

    assert "alive        yes" in info
    assert "registered   :me" in info
    assert "groups       pg :g" in info
    assert "type         int" in await shell("i(5)")
    assert "not connected" in await shell('i(:"x@y.z")')


# Interrupts


@with_shell
async def test_an_interrupt_stops_a_line_that_waits(shell):
    pid = await shell("self")
    asyncio.get_running_loop().call_later(0.05, shell.session.interrupts.interrupt)

    assert await shell("receive()") == "** interrupted"
    assert await shell("self") == pid


@with_shell
async def test_ctrl_c_stops_a_line_that_computes(shell):
    threading.Timer(0.1, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)).start()

    assert await shell("while True: pass") == "** interrupted"
    assert await shell("1") == "1"


@with_shell
async def test_awaiting_a_cancelled_task_does_not_interrupt_the_line(shell):
    await shell("import asyncio", "t = asyncio.create_task(asyncio.sleep(60))", "t.cancel()")

    assert (await shell("await t")).startswith("** (CancelledError)")


def test_a_line_that_blocks_the_event_loop_warns_the_user():
    warnings = []
    interrupts = Interrupts(warnings.append)

    async def line():
        assert interrupts.on_loop_blocked(2.4)

    async def main():
        await interrupts.run_interruptible(line())

    asyncio.run(main())

    assert warnings == [
        "the shell has blocked this node for 2 s: nothing else runs here until the line ends (Ctrl-C stops it)"
    ]


def test_other_code_that_blocks_the_event_loop_does_not_warn_the_user():
    interrupts = Interrupts(pytest.fail)

    async def body():
        line = asyncio.ensure_future(interrupts.run_interruptible(asyncio.sleep(0.01)))
        await asyncio.sleep(0)
        assert not interrupts.on_loop_blocked(2.4)
        await line

    asyncio.run(body())


def test_a_line_that_blocks_the_event_loop_warns_and_is_not_logged(caplog, monkeypatch):
    async def main():
        async with open_shells("socrates") as (shell,):
            monkeypatch.setattr(loop_watchdog, "REPORT_AFTER", 0.1)
            warned = shell.session.namespace["warned"] = threading.Event()
            monkeypatch.setattr(shell.session.interrupts, "_warn", lambda _: warned.set())
            await asyncio.sleep(0)

            assert await shell("warned.wait(20)") == "True"

    asyncio.run(main())

    assert "event loop" not in caplog.text


def test_run_interruptible_awaits_the_coroutine():
    async def inner():
        await asyncio.sleep(0)
        try:
            await asyncio.wait_for(asyncio.sleep(60), 0.01)
        except TimeoutError:
            return Atom("late")

    async def body():
        return await Interrupts(print).run_interruptible(inner())

    began = time.monotonic()
    assert asyncio.run(body()) is Atom("late")
    assert time.monotonic() - began < 5
