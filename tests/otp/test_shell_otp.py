"""The modules of the shell answer as iex does: the same lines are typed into both, and each asks a BEAM."""

import re

import pytest

from polling import wait_until

LINES = [
    "Node.get_cookie",
    "true",
    "[true, nil, 1]",
    "Node.list(:hidden)",
    "Node.set_cookie(:nobody, :secret)",
    ':erpc.multicall([:"plato@127.0.0.1", :"nobody@127.0.0.1"], :lists, :sum, [[1, 2]])',
    ':erpc.multicall([:"plato@127.0.0.1"], :erlang, :exit, [:bye])',
    ':erpc.multicall([:"plato@127.0.0.1"], :erlang, :throw, [:ball])',
    ':rpc.multicall([:"plato@127.0.0.1", :"nobody@127.0.0.1"], :lists, :sum, [[1, 2]])',
    ':rpc.multicall([:"plato@127.0.0.1"], :erlang, :nope, [])',
    ':rpc.multicall([:"plato@127.0.0.1"], :erlang, :exit, [:bye])',
    ':rpc.multicall([:"plato@127.0.0.1"], :timer, :sleep, [5000], 50)',
    'GenServer.multi_call([:"plato@127.0.0.1", :"nobody@127.0.0.1"], :net_kernel, {:is_auth, :a})',
    'Node.monitor(:"nobody@127.0.0.1", true)',
    'Node.ping(:"nobody@127.0.0.1")',  # it waits until the attempt to connect has failed
    "flush",
    ":net_kernel.monitor_nodes(true)",
    ":net_kernel.get_net_ticktime",
    ':sys.suspend({:kernel_sup, :"plato@127.0.0.1"})',
    ':sys.resume({:kernel_sup, :"plato@127.0.0.1"})',
    "Process.whereis(:nope)",
    "Process.info(self(), :message_queue_len)",
    "Process.info(self(), [:registered_name, :trap_exit])",
    "Process.info(pid(0,9999,0))",
    "Process.exit(pid(0,9999,0), :kill)",
    ':erpc.call(:"plato@127.0.0.1", :lists, :sum, [[1, 2]])',
    ':erpc.cast(:"plato@127.0.0.1", :erlang, :node, [])',
    ':rpc.call(:"plato@127.0.0.1", :lists, :sum, [[1, 2]])',
    ':rpc.call(:"plato@127.0.0.1", :erlang, :nope, [])',
    ':rpc.call(:"nobody@127.0.0.1", :erlang, :node, [])',
    ':rpc.call(:"plato@127.0.0.1", :timer, :sleep, [5000], 50)',
    ':rpc.block_call(:"plato@127.0.0.1", :erlang, :node, [])',
    ':net_adm.ping(:"plato@127.0.0.1")',
    ':net_adm.ping(:"nobody@127.0.0.1")',
    'GenServer.call({:kernel_sup, :"plato@127.0.0.1"}, :which_children) |> length' ,
    'GenServer.cast({:nope, :"plato@127.0.0.1"}, :x)',
    "GenServer.cast(:nope, :x)",
    "GenServer.whereis(:nope)",
    'GenServer.whereis({:a, :"plato@127.0.0.1"})',
    ":global.whereis_name(:y)",
    ":global.registered_names",
    ":global.sync",
    ":erlang.whereis(:nope)",
    "send(self(), :hi)",
    "flush",
    "flush",
    "[:a, 1 | :b]",
    "[1 | [2]]",
]  # fmt: skip
ERRORS = [  # the first words of both
    (':erpc.call(:"plato@127.0.0.1", :erlang, :nope, [])', "{:exception, :undef, [{:erlang, :nope, [], []}]}"),
    (':erpc.call(:"plato@127.0.0.1", :erlang, :error, [:boom])', "{:exception, :boom, "),
    (':erpc.call(:"plato@127.0.0.1", :erlang, :throw, [:ball])', "** (throw) :ball"),
    (':erpc.call(:"plato@127.0.0.1", :erlang, :exit, [:bye])', "** (exit) {:exception, :bye}"),
    (':erpc.call(:"nobody@127.0.0.1", :erlang, :node, [])', "{:erpc, :noconnection}"),
    (':erpc.call(:"plato@127.0.0.1", :timer, :sleep, [5000], 50)', "{:erpc, :timeout}"),
    ('GenServer.call({:nope, :"plato@127.0.0.1"}, :x)',
     '** (exit) exited in: GenServer.call({:nope, :"plato@127.0.0.1"}, :x, 5000)'),
    ('GenServer.call({:user, :"plato@127.0.0.1"}, :x, 50)',
     '** (exit) exited in: GenServer.call({:user, :"plato@127.0.0.1"}, :x, 50)'),
    (":global.send(:nothing, :m)", "** (exit) {:badarg, {:nothing, :m}}"),
]  # fmt: skip


@pytest.fixture
def prompts(cluster):
    cluster.beam("plato", otp=25)
    shell, iex = cluster.shell("socrates"), cluster.iex("zeno")
    for each in (shell, iex):
        assert each.type('Node.ping(:"plato@127.0.0.1")') == ":pong"
    for each in (shell, iex):
        wait_until(lambda each=each: len(each.type(":erlang.nodes").split(",")) == 2, what="a full mesh")
    return shell, iex


def test_each_line_prints_what_iex_prints(prompts):
    shell, iex = prompts
    different = []
    for line in LINES:
        typed = line.replace(" |> length", "") if "|>" in line else line
        ours, theirs = shell.type(f"length({typed})" if "|>" in line else line), iex.type(line)
        ours = re.sub(r"\n *\S.*EPMD.*|^ *\S.*EPMD.*\n", "", ours)  # the hint of a :pang
        if ours != theirs:
            different.append((line, ours, theirs))

    assert different == []


def test_each_error_begins_as_in_iex(prompts):
    shell, iex = prompts

    for line, begin in ERRORS:
        for at in (shell, iex):
            answer = at.type(line)
            assert begin in answer, (at.name, line, answer)
        assert "Traceback" not in answer


def test_i_asks_the_node_of_a_process(prompts):
    shell, _ = prompts

    text = shell.type('i(:erpc.call(:"plato@127.0.0.1", :erlang, :whereis, [:kernel_sup]))')

    assert re.search(r'^node +:"plato@127\.0\.0\.1" \(connected\)$', text, re.MULTILINE)
    assert re.search(r"^alive +yes, waiting$", text, re.MULTILINE)
    assert re.search(r"^registered +:kernel_sup$", text, re.MULTILINE)
    assert re.search(r"^runs +:proc_lib\.init_p/5$", text, re.MULTILINE)
