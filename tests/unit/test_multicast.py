"""One message to many processes: it is encoded once."""

import sys

import pytest

from erlmesh import native
from erlmesh.errors import EncodeError
from erlmesh.etf import EncodedTerm, decode_term, encode_term
from erlmesh.etf.encode import encode_term as pure_encode_term
from erlmesh.runtime.multicast import RepeatSender, send_to_each
from erlmesh.terms import Atom, Pid

A, B = Atom("a@h"), Atom("b@h")
ME, P, Q, X, Y = Pid(A, 1, 0, 1), Pid(A, 2, 0, 1), Pid(A, 3, 0, 1), Pid(B, 2, 0, 1), Pid(B, 3, 0, 1)


class Sender:
    pid = ME

    def __init__(self):
        self.sent = []

    def send(self, to, message, *, connect=True):
        self.sent.append((to, message, connect))


def test_encoded_term_is_written_as_its_term():
    term = (Atom("news"), [1, b"x", {1: 2}])

    data = encode_term([EncodedTerm(term), 5])

    assert data == encode_term([term, 5])
    assert decode_term(data, 0)[0] == [term, 5]


@pytest.mark.skipif(native.module is None, reason="the native part is not used")
def test_encoded_term_in_another_term_is_written_by_the_native_encoder():
    encoded = EncodedTerm((Atom("news"), 1))

    assert _written_natively([(Atom("members"), encoded), encoded])


def _written_natively(term):
    """Whether the native encoder writes ``term`` without the pure one."""
    called = []

    sys.setprofile(lambda frame, _event, _argument: called.append(frame.f_code))
    try:
        encode_term(term)
    finally:
        sys.setprofile(None)
    return pure_encode_term.__code__ not in called


def test_encoded_term_has_no_cache_references():
    assert encode_term(EncodedTerm(Atom("news")), {Atom("news"): 3}) == encode_term(Atom("news"))


def test_message_to_many_is_encoded_once_for_other_nodes():
    sender, message = Sender(), (Atom("news"), 1)

    count = send_to_each(sender, [P, X, Q, Y], message)

    assert count == 4
    assert [to for to, _, _ in sender.sent] == [P, X, Q, Y]
    (_, p, _), (_, x, _), (_, q, _), (_, y, _) = sender.sent
    assert p is q is message
    assert x is y
    assert x.data == encode_term(message)


def test_value_that_is_not_a_term_is_sent_to_local_processes_only():
    sender = Sender()

    assert send_to_each(sender, [P], object) == 1
    with pytest.raises(EncodeError):
        send_to_each(sender, [P, X], object)

    assert sender.sent == [(P, object, True)]


def test_repeated_message_is_encoded_once():
    sender, message, equal = Sender(), (Atom("join"), [1]), (Atom("join"), [1])
    repeated = RepeatSender(sender)

    for to, what in ((X, message), (Y, message), (X, message), (X, equal)):
        repeated.send(to, what)

    first, second, third, last = (what for _, what, _ in sender.sent)
    assert first is message
    assert second is third
    assert second.data == encode_term(message)
    assert last is equal
    assert {connect for _, _, connect in sender.sent} == {False}


def test_a_term_that_is_made_of_its_bytes_is_sent_as_the_term():
    term = (Atom("a"), [1, 2.5, b"x"], {b"k": "v"})
    encoded = EncodedTerm.of_data(encode_term(term))

    assert encode_term((1, encoded)) == encode_term((1, term))
    assert encoded.term is None
