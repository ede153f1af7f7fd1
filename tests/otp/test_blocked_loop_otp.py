"""A node with a blocked event loop stays connected to all others and logs the code that blocks it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from erlmesh.terms import Atom
from polling import wait_until

GROUP = Atom("group")

BLOCKING_CODE = {
    "sleeping": "time.sleep(0.05)",
    "computing": "sum(number * number for number in range(1000))",
    "compressing": "zlib.compress(data, 9)",
}
BLOCK = """
import time, zlib
data = bytes(range(256)) * 20_000
began = time.monotonic()
while time.monotonic() - began < {seconds}:
    {how}
"""
EVENTS = "All = fun All(Sofar) -> receive {nodedown, Node} -> All([Node | Sofar]) after 0 -> Sofar end end, All([])"


def blocked(node, how, seconds):
    """Block the node's event loop with code of that kind for that long. Returns afterwards."""
    node.eval(BLOCK.format(seconds=seconds, how=BLOCKING_CODE[how]), timeout=seconds + 30)


@pytest.mark.parametrize("ticktime", [4, 8])
def test_nodes_with_blocked_event_loops_stay_connected_for_three_tick_times(cluster, ticktime):
    """Sleeping and computing in Python and in C, at once, as seen by OTP 25, OTP 27 and another Python node."""
    tick = ["-kernel", "net_ticktime", str(ticktime)]
    beams = [cluster.beam("beam"), cluster.beam("beam27", otp=27, arguments=tick)]
    beams[0].eval(f"net_kernel:set_net_ticktime({ticktime}, 0)")
    nodes = {how: cluster.pynode(how, net_ticktime=ticktime) for how in BLOCKING_CODE}
    other = cluster.pynode("other", net_ticktime=ticktime)
    everybody = [*beams, *nodes.values(), other]
    members = [node.join(GROUP) for node in nodes.values()]
    for node in everybody:
        assert node is other or node.ping(other.name)
    for node in everybody:
        wait_until(lambda node=node: len(node.nodes()) == len(everybody) - 1, what=f"a full mesh at {node.name}")
        wait_until(lambda node=node: len(node.members(GROUP)) == len(members))
    for beam in beams:
        beam.eval("ok = net_kernel:monitor_nodes(true)")

    with ThreadPoolExecutor() as threads:
        all_held = [threads.submit(blocked, node, how, 3 * ticktime) for how, node in nodes.items()]
        wait_until(
            lambda: set(other.eval("node.blocked_peers()")) == {node.name for node in nodes.values()},
            2 * ticktime,
            what="all known to be busy",
        )
        assert not any(each.done() for each in all_held)
        for each in all_held:
            each.result()

    assert [beam.eval(EVENTS) for beam in beams] == [[], []]
    for node in everybody:
        assert len(node.nodes()) == len(everybody) - 1
        assert len(node.members(GROUP)) == len(members)
        assert not node.logged("no data from")
    wait_until(lambda: other.eval("node.blocked_peers()") == {})
    for how, node in nodes.items():
        wait_until(lambda node=node: node.logged("the event loop runs again, after"))
        assert node.logged(f"{node.name}: the event loop has been blocked for"), how
        assert node.logged("in evaluate")


SEND_AND_BLOCK = """
import time, zlib
me.send(("sink", BEAM), bytes(16 << 20))
await asyncio.sleep(0)
await asyncio.sleep(0)
(connection,) = node.internals._instance.loop_monitor.connections()
print("waiting:", connection._socket.queued >> 20, flush=True)
time.sleep(SECONDS)
"""


def test_the_rest_of_a_message_is_sent_while_the_loop_is_blocked(cluster, otp):
    """16 MiB to a node that does not read at first. A tick in the middle of them would close the connection."""
    beam = cluster.beam("beam", otp=otp, arguments=["-kernel", "net_ticktime", "4"])
    python = cluster.pynode("python", net_ticktime=4)
    assert beam.ping(python.name)
    beam.eval("Me = self(), register(sink, spawn(fun() -> receive Big -> Me ! {got, byte_size(Big)} end end))")
    beam.eval("net_kernel:monitor_nodes(true)")

    with ThreadPoolExecutor() as threads:
        beam.stop()
        holding = threads.submit(python.eval, SEND_AND_BLOCK, timeout=60, BEAM=beam.name, SECONDS=20)
        wait_until(lambda: python.logged("waiting:"))
        beam.cont()
        size = beam.eval("receive {got, Size} -> Size after 15000 -> late end", timeout=30)
        assert not holding.done()
        assert any(python.logged(f"waiting: {megabytes}") for megabytes in range(8, 17))
        holding.result()

    assert size == 16 << 20
    assert beam.nodes() == {python.name}
    assert beam.eval("receive {nodedown, Gone} -> Gone after 0 -> nobody end") == Atom("nobody")
    assert beam.ping(python.name)


def test_a_resumed_node_keeps_its_links_to_nodes_that_kept_sending(cluster, otp):
    """The paused node's own tick time passes twice. The longer tick time of the other node does not pass."""
    beam, python = cluster.beam("beam", otp=otp), cluster.pynode("python", net_ticktime=4)
    assert beam.ping(python.name)
    beam.eval("net_kernel:monitor_nodes(true)")
    beam.eval(
        "Talk = fun Talk(N) -> {nobody, Node} ! lists:duplicate(1000, N), receive after 100 -> Talk(N + 1) end end, "
        "spawn(fun() -> Talk(0) end)",
        Node=python.atom,
    )

    python.stop()
    assert beam.eval("receive {nodedown, Gone} -> Gone after 8000 -> nobody end") == Atom("nobody")
    python.cont()

    assert python.nodes() == {beam.name}
    assert not python.logged("no data from")
    assert not python.logged(f"lost {beam.name}")
    assert beam.eval("receive {nodedown, Lost} -> Lost after 0 -> nobody end") == Atom("nobody")
    assert beam.ping(python.name)


COLLECT = """
async def collect(me):
    me.register("sink")
    async for size in me:
        if size == "stop":
            return
        sizes.append(len(size))
sizes = []
node.spawn(collect)
"""
BROADCAST = """
Data = binary:copy(<<1>>, 32768),
Send = fun(_, Longest) ->
    Began = erlang:monotonic_time(millisecond),
    [{sink, Node} ! Data || Node <- Nodes],
    max(Longest, erlang:monotonic_time(millisecond) - Began)
end,
lists:foldl(Send, 0, lists:seq(1, 640))
"""


@pytest.mark.parametrize("how", ["sleeping", "computing"])
def test_a_beam_that_sends_much_to_a_blocked_node_is_not_suspended(cluster, otp, how, tmp_path):
    """20 MB to a blocked node and to another one. All sends are over while the loop is still blocked."""
    beam = cluster.beam("beam", otp=otp)
    nodes = [held, _] = [cluster.pynode("held"), cluster.pynode("other")]
    for node in nodes:
        node.eval(COLLECT)
        assert beam.ping(node.name)
    release = tmp_path / "release"

    with ThreadPoolExecutor() as threads:
        holding = threads.submit(held.eval, HOLD.format(how=BLOCKING_CODE[how], release=release), timeout=60)
        wait_until(lambda: held.logged("holding"))
        longest = beam.eval(BROADCAST, timeout=30, Nodes=[node.atom for node in nodes])
        assert not holding.done()
        release.touch()
        holding.result()

    assert longest < 2000  # a suspended process would wait until the end
    for node in nodes:
        wait_until(lambda node=node: node.eval("len(sizes)") == 640, what=f"all messages at {node.name}")
        assert node.eval("set(sizes)") == {32768}
    assert set(beam.nodes()) == {node.name for node in nodes}


HOLD = """
import os, time, zlib
data = bytes(range(256)) * 20_000
print("holding", flush=True)
while not os.path.exists("{release}"):
    {how}
"""
