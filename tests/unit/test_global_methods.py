"""Resolve methods: which of two processes keeps a name."""

import pytest

from erlmesh.services.global_.methods import ResolveMethods, notify_all_name, random_exit_name, random_notify_name
from erlmesh.terms import Atom, Export, Fun, Pid

P, Q = Pid(Atom("a@h"), 9, 0, 1), Pid(Atom("b@h"), 2, 0, 1)
X = Atom("x")
CONFLICT = Atom("global_name_conflict")
# The local fun random_exit_name/3 of the module global, as OTP 25 sends it with a name.
OTP_DEFAULT = Fun(3, bytes.fromhex("d740a9b2a5f306392d0d7682478c4022"), 0, Atom("global"), 0, 112854349, Q)


class Recorder:
    def __init__(self):
        self.did = []

    def send(self, to, message, *, connect=True):
        self.did.append((to, message))

    def exit(self, to, reason):
        self.did.append((to, "exit", reason))


@pytest.mark.parametrize("method", [random_exit_name, OTP_DEFAULT])
@pytest.mark.parametrize("pids", [(P, Q), (Q, P)])
def test_random_exit_name_kills_the_process_on_the_larger_node(method, pids):
    recorder = Recorder()

    assert ResolveMethods().run(recorder, method, X, *pids) == P
    assert recorder.did == [(Q, "exit", Atom("kill"))]


def test_random_notify_name_notifies_the_process_on_the_larger_node():
    recorder = Recorder()

    assert ResolveMethods().run(recorder, random_notify_name, X, Q, P) == P
    assert recorder.did == [(Q, (CONFLICT, X))]


def test_notify_all_name_notifies_both_and_removes_the_name():
    recorder = Recorder()

    assert ResolveMethods().run(recorder, notify_all_name, X, P, Q) == Atom("none")
    assert recorder.did == [(P, (CONFLICT, X, Q)), (Q, (CONFLICT, X, P))]


def test_python_function_is_called_through_its_term():
    methods = ResolveMethods()

    term = methods.to_term(lambda name, pid, pid2: pid2)

    assert isinstance(term, Export)
    assert methods.run(Recorder(), term, X, P, Q) == Q


def test_python_function_may_return_none():
    methods = ResolveMethods()

    term = methods.to_term(lambda name, pid, pid2: None)

    assert methods.run(Recorder(), term, X, P, Q) == Atom("none")


def test_each_function_has_exactly_one_term():
    methods = ResolveMethods()
    first, second = (lambda *_: None), (lambda *_: None)

    assert methods.to_term(first) == methods.to_term(first)
    assert methods.to_term(first) != methods.to_term(second)


@pytest.mark.parametrize(
    "method",
    [Export(Atom("os"), Atom("cmd"), 3), Export(Atom("erlmesh"), Atom("x"), 3), Fun(3, b"", 0, X, 0, 0, P), 17],
)
def test_unknown_method_fails_with_undef(method):
    recorder = Recorder()

    assert ResolveMethods().run(recorder, method, X, P, Q)[0] == Atom("EXIT")
    assert recorder.did == []


@pytest.mark.parametrize("method", ["random_exit_name", None, Export(Atom("m"), Atom("f"), 2)])
def test_invalid_method_raises(method):
    with pytest.raises(TypeError, match="method"):
        ResolveMethods().to_term(method)
