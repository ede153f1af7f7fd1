"""The session as people type it. The same lines are typed into real iex and ``erlmesh shell``, side by side."""

import re
import time

import pytest

from erlmesh.terms import Atom
from polling import wait_until

PID = re.compile(r"#PID<\d+\.\d+\.\d+>")
ORDERS = [("erlmesh", "iex"), ("iex", "erlmesh"), ("erlmesh", "erlmesh"), ("iex", "iex")]


def node(name):
    return f"{name}@127.0.0.1"


def prompt(cluster, kind, name, otp=None):
    return cluster.iex(name, otp=otp) if kind == "iex" else cluster.shell(name)


def pids(shown):
    """The pids in a printed list. It must have only pids. Remarks of the node may come before it."""
    shown = re.sub(r"\A(global at .*\n)+", "", shown)
    assert re.fullmatch(r"\[(#PID<[\d.]+>(, *\n? *)?)*\]", shown), shown
    return PID.findall(shown)


def members(at, module):
    return pids(at.type(f":{module}.get_members(:group)"))


def wait_for_members(module, count, *prompts):
    wait_until(lambda: all(len(members(at, module)) == count for at in prompts), what=f"{count} members on all")


@pytest.mark.parametrize("kinds", ORDERS, ids="-then-".join)
def test_the_pg2_session_of_otp_23_works_line_by_line(cluster, kinds):
    first, second = kinds
    socrates = prompt(cluster, first, "socrates", otp=23)
    plato = prompt(cluster, second, "plato", otp=23)

    for at, name in ((socrates, "socrates"), (plato, "plato")):
        assert at.type("Node.self") == f':"{node(name)}"'
        assert re.fullmatch(r"\{:ok, #PID<[\d.]+>\}", at.type(":pg2.start()"))
        assert at.type(":pg2.create(:group)") == ":ok"
        assert at.type(":pg2.join(:group, self)") == ":ok"
        assert members(at, "pg2") == [at.type("self")]
    assert socrates.type(":pg2.get_members(:nothing)") == "{:error, {:no_such_group, :nothing}}"

    assert socrates.type(f'Node.ping(:"{node("plato")}")') == ":pong"
    wait_for_members("pg2", 2, socrates, plato)
    assert socrates.type("Node.list") == f'[:"{node("plato")}"]'
    assert plato.type("Node.list()") == f'[:"{node("socrates")}"]'

    aristotle = prompt(cluster, "erlmesh", "aristotle")
    aristotle.type(":pg2.create(:group)")
    assert aristotle.type(":pg2.join(:group, self)") == ":ok"
    assert aristotle.type(f'Node.ping(:"{node("plato")}")') == ":pong"
    wait_for_members("pg2", 3, socrates, plato, aristotle)

    socrates.kill()
    wait_for_members("pg2", 2, plato, aristotle)

    socrates = prompt(cluster, first, "socrates", otp=23)
    socrates.type(":pg2.start()")
    assert socrates.type(":pg2.create(:group)") == ":ok"
    assert socrates.type(":pg2.join(:group, self)") == ":ok"
    assert socrates.type(f'Node.ping(:"{node("plato")}")') == ":pong"
    wait_for_members("pg2", 3, socrates, plato, aristotle)
    assert socrates.type(":pg2.leave(:group, self)") == ":ok"
    wait_for_members("pg2", 2, socrates, plato, aristotle)


@pytest.mark.parametrize("kinds", ORDERS, ids="-then-".join)
@pytest.mark.parametrize("caller", [0, 1])
def test_the_pg_session_works_line_by_line(cluster, kinds, caller, otp):
    both = prompt(cluster, kinds[0], "socrates", otp), prompt(cluster, kinds[1], "plato", otp)
    socrates, plato = both

    for at in both:
        at.type(":pg.start(:pg)")
        assert at.type(":pg.get_members(:group)") == "[]"
        assert at.type(":pg.join(:group, self())") == ":ok"
    assert both[caller].type(f'Node.ping(:"{node(("plato", "socrates")[caller])}")') == ":pong"
    assert both[caller].type('Node.ping(:"nobody@127.0.0.1")').splitlines()[-1] == ":pang"
    wait_for_members("pg", 2, *both)

    killed = time.perf_counter()
    socrates.kill()
    wait_for_members("pg", 1, plato)
    print(f"gone from {kinds[1]} after {(time.perf_counter() - killed) * 1000:.1f} ms")
    wait_until(lambda: plato.type("Node.list") == "[]")


def test_the_same_lines_in_python_syntax_work(cluster):
    beam, shell = cluster.beam("beam"), cluster.shell("shell")

    assert shell.type(f'Node.ping("{beam.name}")') == ":pong"
    assert shell.type('pg.join(Atom("group"), self())') == ":ok"
    wait_until(lambda: beam.members(Atom("group")))
    assert shell.type('pg.get_members(Atom("group"))') == f"[{shell.type('self()')}]"


def test_flush_shows_messages_sent_between_the_two_prompts(cluster, otp):
    iex, shell = cluster.iex("iex", otp=otp), cluster.shell("shell")
    for at in (iex, shell):
        at.type(":pg.start(:pg)")
        at.type(":pg.join(:group, self())")
    assert shell.type(f'Node.ping(:"{node("iex")}")') == ":pong"
    wait_for_members("pg", 2, iex, shell)

    iex.type("for p <- :pg.get_members(:group), node(p) != node(), do: send(p, {:hello, 42})")
    wait_until(lambda: "{:hello, 42}" in shell.type("flush()"))
    shell.type("[send(p, (Atom('hello'), 43)) for p in pg.get_members(Atom('group')) if p != self()]")
    wait_until(lambda: "{:hello, 43}" in iex.type("flush()"))
