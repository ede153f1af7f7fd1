"""A node whose event loop is held by somebody's code is alive, and says what it is that holds it."""

import pytest

from erlmesh.terms import Atom
from waiting import wait_until

GROUP = Atom("group")

HOLDS = {
    "sleeping": "import time; time.sleep({seconds})",
    "computing": "import time; began = time.monotonic()\nwhile time.monotonic() - began < {seconds}: sum(range(1000))",
    "compressing": (
        "import time, zlib; began, data = time.monotonic(), bytes(range(256)) * 40_000\n"
        "while time.monotonic() - began < {seconds}: zlib.compress(data, 9)"
    ),
}


def events(beam):
    """What the BEAM has noticed of nodes that come and go since :func:`watch`."""
    return beam.eval("receive Event -> [Event] after 0 -> [] end")


@pytest.mark.parametrize("ticktime", [4, 8])
@pytest.mark.parametrize("how", HOLDS)
def test_a_beam_keeps_a_node_whose_loop_is_held_for_three_tick_times(cluster, otp, how, ticktime):
    beam = cluster.beam("beam", otp=otp, arguments=["-kernel", "net_ticktime", str(ticktime)])
    python = cluster.pynode("python", net_ticktime=ticktime)
    mine = python.join(GROUP)
    assert beam.ping(python.name)
    wait_until(lambda: beam.members(GROUP) == [mine])
    beam.eval("net_kernel:monitor_nodes(true)")

    python.eval(HOLDS[how].format(seconds=3 * ticktime), timeout=60)

    assert events(beam) == []
    assert beam.members(GROUP) == [mine]
    assert beam.ping(python.name)
    assert python.nodes() == {beam.name}
    assert python.logged("has not turned for")
    assert python.logged("turns again, after")
