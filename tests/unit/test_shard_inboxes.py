"""The answers to the sources of shards."""

from erlmesh.core.sharding.messages import ACK, WAIT
from erlmesh.services.sharding.shard_inboxes import ShardInboxes
from erlmesh.terms import Atom, Pid

SENDER = Pid(Atom("s@h"), 1, 0, 1)
SOURCE = (Atom("s@h"), 7, b"ticks")


def test_what_is_due_is_acknowledged_before_the_shard_is_left():
    sent = []
    inboxes = ShardInboxes(b"cep", lambda to, message: sent.append((to, message)))
    inboxes.begin(3, [])
    entry = inboxes.open(3).put(SOURCE, b"x", 1, SENDER)
    inboxes.settle(3, entry, 1, withhold=False)
    assert sent == []

    inboxes.close(3)

    assert sent == [(SENDER, (ACK, b"cep", b"x", SOURCE, 1))]
    inboxes.close(3)
    assert len(sent) == 1


def test_a_message_for_a_shard_that_is_not_held_is_told_to_wait_once():
    sent = []
    inboxes = ShardInboxes(b"cep", lambda to, message: sent.append((to, message)))

    for number in (1, 2, 3):
        inboxes.put_elsewhere(SOURCE, b"x", number, SENDER)
    inboxes.answer([])

    assert sent == [(SENDER, (WAIT, b"cep", b"x", SOURCE, 0))]
