"""The questions that the tools of Erlang ask a Python node which they show. They run without their windows."""

import os

import pytest

from beam import otp_environment, programs
from erlmesh.terms import Atom
from polling import wait_until
from terminal import Terminal

OK, UNDEFINED = Atom("ok"), Atom("undefined")
ASK = "rpc:call(Peer, Module, Function, Arguments)"
# What observer's table of processes does: its backend is linked, and ends when all processes are sent.
COLLECT = """
process_flag(trap_exit, true),
Backend = spawn_link(Peer, observer_backend, procs_info, [self()]),
Loop = fun Loop(Rows) ->
    receive
        {procs_info, Backend, More} -> Loop(More ++ Rows);
        {'EXIT', Backend, Reason} -> {Reason, Rows}
    after 10000 -> timeout
    end
end,
Collected = Loop([]), process_flag(trap_exit, false), Collected
"""
ETOP = """
Top = spawn_link(Peer, observer_backend, etop_collect, [self()]), receive {Top, Info} -> Info after 10000 -> late end
"""
STATS = """
Stats = spawn_link(Peer, observer_backend, fetch_stats, [self(), 100]),
Samples = [receive {stats, 1, Wall, Io, Memory} -> {Wall, Io, Memory} after 10000 -> late end || _ <- [1, 2]],
unlink(Stats), exit(Stats, kill), Samples
"""
SHELL = """
Test = self(),
Leader = spawn(fun() ->
    receive {io_request, From, As, {put_chars, unicode, Text}} -> From ! {io_reply, As, ok}, Test ! {printed, Text} end
end),
spawn(fun() -> group_leader(Leader, self()), Test ! {shell, rpc:call(Peer, shell, start, [init])} end),
Started = receive {shell, Shell} -> is_pid(Shell) after 10000 -> late end,
{Started, receive {printed, Text} -> Text after 10000 -> late end}
"""
TRACE = """
{ok, _} = dbg:tracer(process, {fun(_, State) -> State end, none}),
Added = dbg:n(Peer),
{ok, Matched} = dbg:p(all, [call]),
{ok, Patterns} = dbg:tp(lists, sum, 1, []),
dbg:stop(),
Found = [Error || List <- [Matched, Patterns], {matched, Node, 0, {error, Error}} <- List, Node =:= Peer],
{Added, Found}
"""
# The questions of LiveDashboard's pages, and how it reads the answers.
DASHBOARD = """
Dashboard = 'Elixir.Phoenix.LiveDashboard.SystemInfo',
Page = fun(Callback, Values) -> erpc:call(Peer, Dashboard, Callback, Values) end,
{file, _} = erpc:call(Peer, code, is_loaded, [Dashboard]),
{module, _} = erpc:call(Peer, code, load_binary, [Dashboard, "file", <<>>]),
#{'dashboard_running?' := false, applications := [os_mon]} = Page(capabilities_callback, [[{application, os_mon}]]),
#{system_usage := #{memory := #{total := Total, other := Other}}} = Page(info_callback, [nil, shop]),
true = Total >= Other,
{Shown, Count, _} = Page(processes_callback, [nil, memory, desc, 50, nil]),
Found = [proplists:get_value(pid, Row) || Row <- Shown],
true = Count >= length(Found),
[begin {ok, Window} = Page(process_info_callback, [Pid]), {_, _, _} = proplists:get_value(current_function, Window) end
 || Pid <- Found, rpc:call(Peer, erlang, is_process_alive, [Pid])],
[{[], 0} = Page(Name, [nil, name, asc, 50]) || Name <- [ets_callback, ports_callback, sockets_callback]],
#{disk := [{_, _, _}], system_mem := [_ | _]} = Page(os_mon_callback, []),
{[#{name := total} | _], #{}} = Page(memory_allocators_callback, [nil]),
Found
"""


@pytest.fixture
def looked_at(cluster, otp):
    """A Python node with a process that has five messages, and a BEAM that is connected to it."""
    socrates, plato = cluster.pynode("socrates"), cluster.beam("plato", otp=otp)
    assert plato.ping(socrates.name)
    return socrates, plato


def test_a_beam_looks_at_a_python_node_with_its_own_tools(looked_at):
    socrates, plato = looked_at

    def ask(module, function, *arguments):
        call = {"Module": Atom(module), "Function": Atom(function), "Arguments": list(arguments)}
        return plato.eval(ASK, Peer=socrates.atom, **call)

    # c:ni() and the shell: every process, by process_info/1 and with the keys that they print
    keys = [Atom(key) for key in ("initial_call", "current_function", "reductions", "heap_size", "stack_size")]
    pids = ask("erlang", "processes")
    described = [ask("erlang", "process_info", pid) for pid in pids]
    assert len(described) >= 10
    assert all(set(keys) <= dict(info).keys() for info in described if info is not UNDEFINED)
    assert ask("erlang", "whereis", Atom("rex")) in pids
    assert plato.eval("c:nregs() =/= 1", Peer=socrates.atom) is True

    # observer and etop
    reason, rows = plato.eval(COLLECT, Peer=socrates.atom)
    assert reason is Atom("normal")
    assert {row[1] for row in rows} >= {ask("erlang", "whereis", Atom("rex"))}
    info = plato.eval(ETOP, Peer=socrates.atom)
    assert (info[0], len(info)) == (Atom("etop_info"), 9)
    assert len(info[8]) == len(rows)
    samples = plato.eval(STATS, Peer=socrates.atom)
    assert all(wall[0][0] == 1 and dict(memory)[Atom("total")] > 0 for wall, _, memory in samples)
    assert (
        plato.text("proplists:get_value(system_architecture, rpc:call(Peer, observer_backend, sys_info, []))") != '""'
    )

    # LiveDashboard
    assert ask("erlang", "whereis", Atom("rex")) in plato.eval(DASHBOARD, Peer=socrates.atom)

    # A remote shell
    started, text = plato.eval(SHELL, Peer=socrates.atom)
    assert started is True
    assert f"erlmesh remsh {socrates.name}" in text.decode()
    assert ask("code", "ensure_loaded", Atom("shell"))[0] is Atom("error")

    # Looking has disconnected nothing.
    assert plato.nodes() == {socrates.name}


def test_dbg_gets_an_error_from_a_node_that_it_cannot_trace(looked_at):
    socrates, plato = looked_at
    count = "length(rpc:call(Peer, erlang, processes, []))"
    before = plato.eval(count, Peer=socrates.atom)

    added, errors = plato.eval(TRACE, Peer=socrates.atom)

    assert added == (Atom("ok"), socrates.atom)
    assert [bytes(text).decode() for text in errors] == [
        f"{socrates.name} is a node of Python. It cannot be traced"
    ] * 2
    wait_until(lambda: plato.eval(count, Peer=socrates.atom) == before, what="the end of the relay")


@pytest.mark.parametrize("shell", ["erl", "iex"])
def test_a_remote_shell_says_which_command_opens_a_shell(cluster, tmp_path, otp, shell):
    socrates = cluster.pynode("socrates")
    folder = programs(otp)
    name, cookie = ("-name", "-setcookie") if shell == "erl" else ("--name", "--cookie")
    remsh = "-remsh" if shell == "erl" else "--remsh"
    # iex of Elixir before 1.15 calls the node by rpc without connecting to it first, so it needs a name of its own.
    command = [str(folder / shell), name, "visitor@127.0.0.1", cookie, "monster", remsh, socrates.name]
    text = "Open its shell with: erlmesh remsh socrates"

    terminal = Terminal(command, {**os.environ, **otp_environment(cluster.epmd_port, tmp_path, folder)})
    try:
        terminal.wait_for(text)
    finally:
        terminal.close()
