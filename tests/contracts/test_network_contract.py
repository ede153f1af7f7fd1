"""What a node relies on, asked of both networks; and whether a network that lies would be found out."""

import asyncio
from random import Random

import pytest
from networks import Recorder, Simulated, Tcp, wait_until

from erlmesh.errors import ConnectError, NodeStartError
from simulation.mutants.mutation import Mutant

CONTRACTS = {}


def contract(run_contract):
    """``ask(network)`` is a coroutine; it raises if the answer is wrong."""
    CONTRACTS[run_contract.__name__.replace("_", " ")] = run_contract
    return run_contract


def run_contract(name, network):
    async def main():
        try:
            await CONTRACTS[name](network)
        finally:
            await network.close()

    network.run(main)


# The questions


@contract
async def what_is_written_arrives_whole_and_in_order_both_ways(network):
    pair, chance = await network.pair(), Random(1)
    sent = {pair.initiator: bytearray(), pair.acceptor: bytearray()}
    for number in range(200):
        for end in sent:
            data = bytes([number]) * chance.choice((1, 2, 100, 5000))
            sent[end] += data
            end.transport.write(data)
        if number % 20 == 0:
            await wait_until(lambda: pair.acceptor.received and pair.initiator.received)

    await wait_until(lambda: len(pair.acceptor.received) >= len(sent[pair.initiator]))
    await wait_until(lambda: len(pair.initiator.received) >= len(sent[pair.acceptor]))
    assert pair.acceptor.received == sent[pair.initiator]
    assert pair.initiator.received == sent[pair.acceptor]
    await pair.close()


@contract
async def who_closes_has_said_all_it_wrote(network):
    pair = await network.pair()
    pair.initiator.transport.write(b"x" * 300_000)
    pair.initiator.transport.close()

    assert pair.initiator.transport.is_closing()
    await wait_until(lambda: pair.acceptor.events[-1] == "lost")
    assert pair.acceptor.received == b"x" * 300_000
    assert pair.acceptor.error is None
    await wait_until(lambda: pair.initiator.events[-1] == "lost")
    pair.listener.close()


@contract
async def both_ends_are_told_once_in_this_order(network):
    pair = await network.pair()
    pair.initiator.transport.write(b"hello")
    await wait_until(lambda: pair.acceptor.received)
    pair.initiator.transport.abort()
    await wait_until(lambda: pair.acceptor.events[-1] == "lost" and pair.initiator.events[-1] == "lost")

    assert pair.acceptor.events == ["made", "data", "lost"]
    assert pair.initiator.events == ["made", "lost"]
    pair.listener.close()


@contract
async def after_the_end_writing_is_harmless(network):
    pair = await network.pair()
    pair.initiator.transport.close()
    pair.initiator.transport.write(b"nobody hears this")
    await wait_until(lambda: pair.acceptor.events[-1] == "lost")

    assert pair.acceptor.received == b""
    pair.listener.close()


@contract
async def who_writes_more_than_is_read_is_told_to_pause_and_to_go_on(network):
    pair = await network.pair()
    network.pause_reading(pair.acceptor)
    written = 0
    while "pause" not in pair.initiator.events:
        pair.initiator.transport.write(b"x" * 100_000)
        written += 100_000
        assert written < 1 << 26
        await asyncio.sleep(0)
    network.resume_reading(pair.acceptor)

    await wait_until(lambda: pair.initiator.events[-1] == "resume")
    await wait_until(lambda: len(pair.acceptor.received) == written)
    await pair.close()


@contract
async def where_nobody_listens_nobody_answers(network):
    pair = await network.pair()
    port = pair.listener.port
    pair.listener.close()

    with pytest.raises(ConnectError, match=f"nobody listens on port {port} of {network.there}"):
        await network.initiator_host.dial(network.there, port, Recorder)
    pair.initiator.transport.write(b"what is there lives on")
    await wait_until(lambda: pair.acceptor.received == b"what is there lives on")
    await pair.close()


@contract
async def a_port_that_is_taken_is_not_listened_on(network):
    pair = await network.pair()
    port = pair.listener.port

    with pytest.raises(NodeStartError, match="taken"):
        await network.acceptor_host.listen([network.there], [port], Recorder)
    other = await network.acceptor_host.listen([network.there], [port, 0], Recorder)
    assert other.port not in (0, port)
    other.close()
    await pair.close()


@contract
async def the_peer_has_an_address(network):
    pair = await network.pair()

    assert pair.acceptor.transport.get_extra_info("peername")[0] == network.here
    assert pair.initiator.transport.get_extra_info("peername")[0] == network.there
    await pair.close()


@contract
async def through_a_cut_nothing_passes_and_afterwards_all_of_it_in_order(network):
    pair = await network.pair()
    pair.initiator.transport.write(b"before ")
    await wait_until(lambda: pair.acceptor.received == b"before ")
    network.cut()
    for number in range(50):
        pair.initiator.transport.write(b"%d " % number)
        pair.acceptor.transport.write(b"%d " % number)
    await _settle()
    meanwhile = bytes(pair.acceptor.received), bytes(pair.initiator.received)
    network.heal()

    wanted = b"".join(b"%d " % number for number in range(50))
    await wait_until(
        lambda: len(pair.acceptor.received) >= len(wanted) + 7 and len(pair.initiator.received) >= len(wanted)
    )
    assert meanwhile == (b"before ", b"")
    assert (pair.acceptor.received, pair.initiator.received) == (b"before " + wanted, wanted)
    await pair.close()


@contract
async def what_is_under_way_when_a_cut_comes_waits_for_its_end(network):
    pair = await network.pair()
    for number in range(20):
        pair.initiator.transport.write(b"%d " % number)
        network.cut()
        pair.initiator.transport.write(b"- ")
        await _settle(0.02)
        network.heal()
        pair.initiator.transport.write(b"+ ")

    wanted = b"".join(b"%d - + " % number for number in range(20))
    await wait_until(lambda: len(pair.acceptor.received) >= len(wanted))
    assert pair.acceptor.received == wanted
    await pair.close()


@contract
async def a_cut_of_one_way_leaves_the_other(network):
    pair = await network.pair()
    network.cut(back=False)
    pair.initiator.transport.write(b"into the void")
    pair.acceptor.transport.write(b"I do not hear you")
    await wait_until(lambda: pair.initiator.received == b"I do not hear you")
    await _settle()
    meanwhile = bytes(pair.acceptor.received)
    network.heal()

    await wait_until(lambda: pair.acceptor.received == b"into the void")
    assert meanwhile == b""
    await pair.close()


@contract
async def who_closes_behind_a_cut_is_heard_after_it(network):
    pair = await network.pair()
    network.cut()
    pair.initiator.transport.write(b"farewell")
    pair.initiator.transport.close()
    await _settle()
    meanwhile = list(pair.acceptor.events)
    network.heal()

    await wait_until(lambda: pair.acceptor.events[-1] == "lost")
    assert meanwhile == ["made"]
    assert pair.acceptor.received == b"farewell"
    pair.listener.close()


async def _settle(seconds=0.1):
    """For what must not happen: with time to happen in."""
    await asyncio.sleep(seconds)


# Who is asked


@pytest.mark.parametrize("name", CONTRACTS)
def test_tcp_answers(name):
    run_contract(name, Tcp(1))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", CONTRACTS)
def test_the_simulated_network_answers_the_same(name, seed):
    run_contract(name, Simulated(seed))


BROKEN_NETWORKS = [
    Mutant(
        "erlmesh.testing.network:_Pipe._deliver",
        "bytes leak through a cut",
        "if sender.network.is_cut(sender.address, receiver.address) or not self._chunks:",
        "if not self._chunks:",
    ),
    Mutant(
        "erlmesh.testing.network:_Pipe.put",
        "the newest piece arrives first",
        "self._chunks.append(data)",
        "self._chunks.appendleft(data)",
    ),
    Mutant(
        "erlmesh.testing.network:_Pipe.put",
        "of what arrives in pieces the first is lost",
        "self._chunks.append(data[:cut])",
        "pass",
    ),
    Mutant(
        "erlmesh.testing.network:_Pipe.resume",
        "what a cut has held back is lost",
        "self._schedule(after)",
        "self._chunks.clear()",
    ),
    Mutant(
        "erlmesh.testing.network:_Transport.close",
        "who closes loses what it has written",
        "self._outgoing.put(None)",
        "self._outgoing.clear()",
    ),
    Mutant(
        "erlmesh.testing.network:_Transport.close",
        "the end of a stream is not told",
        "self._outgoing.put(None)",
        "pass",
    ),
    Mutant(
        "erlmesh.testing.network:_Transport.buffer_drained",
        "who was told to pause is never told to go on",
        'self._call_soon(self._call_protocol, "resume_writing")',
        "pass",
    ),
    Mutant(
        "erlmesh.testing.network:SimulatedNetwork.cut",
        "a cut of one way is a cut of both",
        "self._cuts.setdefault((sender, receiver), asyncio.get_running_loop().time())",
        "self._cuts.update({(sender, receiver): 0.0, (receiver, sender): 0.0})",
    ),
    Mutant(
        "erlmesh.testing.network:Host.close",
        "who has closed its door lets others in",
        "self._listeners.pop(port, None)",
        "pass",
    ),
]


@pytest.mark.parametrize("mutant", BROKEN_NETWORKS, ids=str)
def test_a_network_that_lies_is_found_out(mutant):
    assert any(_is_detected(mutant, name, seed) for seed in range(5) for name in CONTRACTS)


def _is_detected(mutant, name, seed):
    try:
        with mutant.applied():
            run_contract(name, Simulated(seed))
    except (Exception, pytest.fail.Exception):
        return True
    return False
