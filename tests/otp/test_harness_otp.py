"""The tools of these tests: nodes that evaluate code and can be killed, halted and paused."""

import os

import pytest

from erlmesh.terms import Atom
from os_process import EvaluationFailed, ProcessGone
from polling import wait_until


def test_a_beam_evaluates_keeps_variables_and_takes_terms(cluster, otp):
    beam = cluster.beam("a", otp=otp)

    assert beam.eval("X = 1 + 1, {X, node()}") == (2, Atom("a@127.0.0.1"))
    assert beam.eval("{X, Y}", Y=[1.5, b"two"]) == (2, [1.5, b"two"])
    assert beam.text("{self, <<\"ü\"/utf8>>, 'A b'}") == "{self,<<\"ü\"/utf8>>,'A b'}"


def test_an_error_in_erlang_is_reported_in_its_own_words(cluster):
    beam = cluster.beam("a")

    with pytest.raises(EvaluationFailed, match="badarith"):
        beam.eval("1 / 0")

    assert beam.eval("still_here") == Atom("still_here")


def test_a_killed_beam_is_reported_as_gone(cluster):
    beam = cluster.beam("a")

    beam.kill()

    assert not beam.is_running()
    with pytest.raises(ProcessGone):
        beam.eval("node()")


def test_a_halted_beam_leaves_no_process(cluster):
    beam = cluster.beam("a")

    beam.halt()

    with pytest.raises(ProcessLookupError):
        os.kill(beam.pid, 0)


def test_beams_connect_by_ping_and_a_paused_one_is_disconnected(cluster):
    a = cluster.beam("a", arguments=["-kernel", "net_ticktime", "4"])
    b = cluster.beam("b", arguments=["-kernel", "net_ticktime", "4"])

    assert a.ping(b.name)
    assert a.nodes() == {b.name}
    b.stop()
    wait_until(lambda: a.nodes() == set())
    b.cont()
    assert b.ping(a.name)
    wait_until(lambda: a.nodes() == {b.name})


def test_an_iex_answers_its_input(cluster, otp):
    iex = cluster.iex("x", otp=otp)

    assert iex.type("Node.self") == ':"x@127.0.0.1"'
    assert iex.type("1/0").startswith("** (ArithmeticError)")
