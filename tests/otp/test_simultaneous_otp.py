"""Both nodes dial at the same moment. Every time, both sides have one connection."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from erlmesh.terms import Atom
from polling import wait_until

SPREAD = 0.0015
"""Seconds by which the two may miss each other: around a handshake's own length, so that all its steps collide."""

BEAM_AT = """
(fun Wait() -> case os:system_time(microsecond) >= At of true -> ok; false -> Wait() end end)(),
net_kernel:connect_node(Peer)
"""
PYTHON_AT = """
async def connect_at(at, peer):
    import time
    while time.time() < at: pass
    return await node.connect(peer)
"""


def connect_at(node, at, peer):
    if hasattr(node, "otp"):
        return node.eval(BEAM_AT, At=int(at * 1e6), Peer=Atom(peer))
    return node.eval("await connect_at(at, peer)", at=at, peer=peer)


def disconnect_both(node, peer):
    """Disconnects until both are alone. A service of either that sends at the same moment connects them again."""

    def both_disconnected():
        if hasattr(node, "otp"):
            node.eval("erlang:disconnect_node(Peer)", Peer=peer.atom)
        else:
            node.eval("node.disconnect(peer)", peer=peer.name)
        return not node.nodes() and not peer.nodes()

    wait_until(both_disconnected, what="both alone", details=lambda: (node.nodes(), peer.nodes()))


# The greater name wins when both dial, so each kind of node has to take both roles.
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("first", "second"), [("beam", "python"), ("python", "beam"), ("python", "python")])
def test_two_nodes_that_dial_each_other_at_once_have_one_connection(cluster, rounds, first, second, otp):
    a = cluster.beam("a", otp=otp) if first == "beam" else cluster.pynode("a")
    b = cluster.beam("b", otp=otp) if second == "beam" else cluster.pynode("b")
    for node in (a, b):
        if not hasattr(node, "otp"):
            node.eval(PYTHON_AT)
    chance = random.Random(300)

    with ThreadPoolExecutor(2) as pool:
        for number in range(rounds(30)):
            at = time.time() + 0.01
            one = pool.submit(connect_at, a, at, b.name)
            two = pool.submit(connect_at, b, at + chance.uniform(-SPREAD, SPREAD), a.name)

            assert (one.result(20), two.result(20)) == (True, True), f"round {number}"
            wait_until(lambda: (a.nodes(), b.nodes()) == ({b.name}, {a.name}), what="one connection on both sides")
            disconnect_both((a, b)[number % 2], (b, a)[number % 2])
