"""Erlang nodes without a name (``erl -name undefined``) connect to a Python node, which gives them one."""

import os
import re
import subprocess

from beam import programs
from erlmesh.terms import Atom
from polling import wait_until

CONNECT = "net_kernel:connect_node(Peer)"


def hidden_nodes(node):
    return set(node.eval("node.nodes(hidden=True)"))


def test_nodes_without_a_name_get_one_and_are_gone_without_a_trace(cluster, otp):
    socrates = cluster.pynode("socrates")
    first, second = (cluster.beam("undefined", otp=otp) for _ in range(2))

    assert first.eval(CONNECT, Peer=socrates.atom) is True
    assert second.eval(CONNECT, Peer=socrates.atom) is True

    names = [beam.eval("node()").name for beam in (first, second)]
    assert all(re.fullmatch("[0-9A-Z]+@127.0.0.1", name) for name in names)
    assert len(set(names)) == 2
    assert hidden_nodes(socrates) == set(names)
    assert socrates.nodes() == set()
    assert first.eval("nodes(connected)") == [socrates.atom]
    # Calls in both directions, and messages between processes
    assert first.eval("rpc:call(Peer, erlmesh, echo, [self()]) =:= self()", Peer=socrates.atom) is True
    assert socrates.eval("await node.rpc(NAME, 'erlang', 'node')", NAME=names[0]) == Atom(names[0])
    shell = first.eval("self()")
    assert shell.node is Atom(names[0])
    socrates.eval("me.send(PID, 'hello')", PID=shell)
    assert first.eval("receive Hello -> Hello end") == b"hello"
    # A monitor ends with the node, which nobody dials again
    socrates.eval("watch = me.monitor(PID)", PID=shell)
    first.kill()
    down = socrates.eval("await me.receive(lambda message: message[:2] == (Atom('DOWN'), watch), timeout=15)")
    assert down[4] == Atom("noconnection")
    wait_until(lambda: hidden_nodes(socrates) == {names[1]})
    assert socrates.eval("node.reconnecting()") == []


def test_erl_call_without_a_name_calls_a_python_node(cluster):
    socrates = cluster.pynode("socrates")
    command = ["erl_call", "-R", "-c", "monster", "-name", socrates.name, "-a", "erlmesh echo [hello]"]

    answer = subprocess.run(
        [str(programs() / command[0]), *command[1:]],
        env={**os.environ, "ERL_EPMD_PORT": str(cluster.epmd_port)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (answer.stdout, answer.returncode) == ("hello", 0), answer.stderr
    wait_until(lambda: hidden_nodes(socrates) == set())


def test_an_allow_list_and_the_cookie_are_for_nodes_without_a_name_too(cluster):
    strict, open_here = (cluster.pynode(name, allow=allow) for name, allow in (("a", ["b"]), ("c", ["127.0.0.1"])))
    nameless, guesser = cluster.beam("undefined"), cluster.beam("undefined", cookie="wrong")

    assert nameless.eval(CONNECT, Peer=strict.atom) is False
    assert guesser.eval(CONNECT, Peer=open_here.atom) is False
    assert nameless.eval(CONNECT, Peer=open_here.atom) is True

    assert hidden_nodes(open_here) == {nameless.eval("node()").name}
    assert hidden_nodes(strict) == set()
