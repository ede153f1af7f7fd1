"""A node with a blocked event loop stays connected to all others and logs the code that blocks it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from erlmesh import native
from erlmesh.net.health_socket import read_health
from erlmesh.terms import Atom
from polling import wait_until

GROUP = Atom("group")

BLOCKING_CODE = {
    "sleeping": "time.sleep(0.05)",
    "computing": "sum(number * number for number in range(1000))",
    "compressing": "zlib.compress(data, 9)",
}
if native.module is not None:  # the thread of the pure build needs the GIL
    # One call in C that holds the GIL, and a regular expression whose time is exponential.
    BLOCKING_CODE["holding"] = "ctypes.PyDLL(None).sleep(5)"
    BLOCKING_CODE["matching"] = "re.match('(a|aa)+$', 'a' * 34 + 'b')"
BLOCK = """
import ctypes, re, time, zlib
data = bytes(range(256)) * 20_000
began = time.monotonic()
while time.monotonic() - began < {seconds}:
    {how}
"""
EVENTS = "All = fun All(Sofar) -> receive {nodedown, Node} -> All([Node | Sofar]) after 0 -> Sofar end end, All([])"


def blocked(node, how, seconds):
    """Block the node's event loop with code of that kind for that long. Returns afterwards."""
    node.eval(BLOCK.format(seconds=seconds, how=BLOCKING_CODE[how]), timeout=seconds + 30)


# The `pg` of OTP 29 ends the `pg` of OTP 25, so they are not in the same mesh.
@pytest.mark.parametrize(("ticktime", "otps"), [(4, (25, 27)), (8, (27, 29))])
def test_nodes_with_blocked_event_loops_stay_connected_for_three_tick_times(cluster, ticktime, otps):
    """Sleeping and computing in Python and in C, at once, as seen by two releases of OTP and another Python node."""
    tick = ["-kernel", "net_ticktime", str(ticktime)]
    beams = [cluster.beam("first", otp=otps[0]), cluster.beam("second", otp=otps[1], arguments=tick)]
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
        if how == "holding":
            assert node.logged("no thread could run Python")
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
    async for number, data in me:
        numbers.append(number)
        sizes.append(len(data))
sizes, numbers = [], []
node.spawn(collect)
"""
BROADCAST = """
Data = binary:copy(<<1>>, 32768),
Send = fun(Number, Longest) ->
    Began = erlang:monotonic_time(millisecond),
    [{sink, Node} ! {Number, Data} || Node <- Nodes],
    max(Longest, erlang:monotonic_time(millisecond) - Began)
end,
lists:foldl(Send, 0, lists:seq(1, 640))
"""


@pytest.mark.parametrize("how", list(BLOCKING_CODE))
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
        assert node.eval("numbers") == list(range(1, 641))
        assert node.eval("set(sizes)") == {32768}
    assert set(beam.nodes()) == {node.name for node in nodes}


HOLD = """
import ctypes, os, re, time, zlib
data = bytes(range(256)) * 20_000
print("holding", flush=True)
while not os.path.exists("{release}"):
    {how}
"""


@pytest.mark.skipif(native.module is None, reason="the thread of the pure build needs the GIL")
def test_the_embedded_epmd_and_the_health_check_answer_while_the_gil_is_held(cluster_without_epmd, tmp_path):
    cluster = cluster_without_epmd
    python = cluster.pynode("python")
    beam = cluster.beam("beam")
    assert beam.ping(python.name)
    health = tmp_path / "health"
    python.eval(START_HEALTH, FOLDER=str(health))

    with ThreadPoolExecutor() as threads:
        holding = threads.submit(python.eval, "import ctypes; ctypes.PyDLL(None).usleep(6_000_000)", timeout=60)
        wait_until(lambda: read_health(next(health.iterdir()), 5)["alive"] is False)
        report = read_health(next(health.iterdir()), 5)
        names = beam.eval("erl_epmd:names({127, 0, 0, 1})")
        port = beam.eval('erl_epmd:port_please("python", {127, 0, 0, 1})')
        assert not holding.done()
        holding.result()

    assert report["loop_ms"] >= 1000
    assert report["blocked_by"] == "code that holds the GIL"
    assert sorted(bytes(name).decode() for name, _ in names[1]) == ["beam", "python"]
    assert port[0] == Atom("port")
    assert read_health(next(health.iterdir()), 5)["alive"] is True


START_HEALTH = """
from erlmesh.net.health import HealthServer
health_server = HealthServer(node.name, dict, [FOLDER])
"""
