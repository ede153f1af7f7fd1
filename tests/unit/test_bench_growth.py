"""The benchmark of growth: a node cannot tell light peers from complete nodes."""

from collections import Counter
from functools import partial

import pytest

from bench.growth_mesh import measure_joiner
from erlmesh.proto.channel import Channel
from erlmesh.testing import loop as loop_module
from erlmesh.testing.loop import run

SIZE = 6
LOSS_REPORT = ("SendName", "global_name_server", ("lost_connection",))
"""A light peer reports each loss. A complete node does not report to a node that reported the same loss first."""
LOCK_ANSWER = ("Send", "", ("",))
"""It is chance which of two lockers starts, so the number of attempts differs."""


def kind(signal):
    """The class of the signal, its target, and the first words of its message, without pids and references."""
    words, message = [], getattr(signal, "message", None)
    while isinstance(message, tuple) and message:
        words.append(str(message[0]) if type(message[0]).__name__ == "Atom" else "")
        message = message[-1]
    return type(signal).__name__, str(getattr(signal, "name", "")), tuple(words)


@pytest.fixture
def received(monkeypatch):
    """The kinds of signals that the node ``newcomer`` has received."""
    kinds, receive_data = Counter(), Channel.receive_data

    def recording_receive_data(channel, data, now):
        events = receive_data(channel, data, now)
        if loop_module._machine.get().name.startswith("newcomer"):
            kinds.update(map(kind, events))
        return events

    monkeypatch.setattr(Channel, "receive_data", recording_receive_data)
    return kinds


@pytest.mark.slow
def test_a_node_gets_the_same_signals_from_light_peers_as_from_complete_nodes(received):
    run(partial(measure_joiner, SIZE, light=False))
    from_complete = Counter(received)
    received.clear()

    run(partial(measure_joiner, SIZE))

    assert received[LOSS_REPORT] == SIZE - 1 >= from_complete[LOSS_REPORT] > 0
    for some in (received, from_complete):
        del some[LOSS_REPORT], some[LOCK_ANSWER]
    assert received == from_complete
    assert received.total() > 6 * SIZE
