"""The contract of a network: TCP and the simulated network pass it, and broken networks fail it."""

import asyncio
from random import Random

import pytest
from networks import Recorder, Simulated, Tcp, wait_until

from erlmesh.errors import ConnectError, NodeStartError
from simulation.mutants.mutation import Mutant

CONTRACTS = {}


def contract(run_contract):
    """Register a coroutine function of a network. It raises if the network violates the contract."""
    CONTRACTS[run_contract.__name__.replace("_", " ")] = run_contract
    return run_contract


def run_contract(name, network):
    async def main():
        try:
            await CONTRACTS[name](network)
        finally:
            await network.close()

    network.run(main)


# The contract


@contract
async def written_data_arrives_complete_and_in_order_in_both_directions(network):
    pair, rng = await network.pair(), Random(1)
    sent = {pair.initiator: bytearray(), pair.acceptor: bytearray()}
    for number in range(200):
        for end in sent:
            data = bytes([number]) * rng.choice((1, 2, 100, 5000))
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
async def close_sends_all_written_data_first(network):
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
async def both_protocols_are_called_once_and_in_order(network):
    pair = await network.pair()
    pair.initiator.transport.write(b"hello")
    await wait_until(lambda: pair.acceptor.received)
    pair.initiator.transport.abort()
    await wait_until(lambda: pair.acceptor.events[-1] == "lost" and pair.initiator.events[-1] == "lost")

    assert pair.acceptor.events == ["made", "data", "lost"]
    assert pair.initiator.events == ["made", "lost"]
    pair.listener.close()


@contract
async def write_after_close_has_no_effect(network):
    pair = await network.pair()
    pair.initiator.transport.close()
    pair.initiator.transport.write(b"this is never sent")
    await wait_until(lambda: pair.acceptor.events[-1] == "lost")

    assert pair.acceptor.received == b""
    pair.listener.close()


@contract
async def fast_writer_is_paused_and_resumed(network):
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
async def connecting_to_a_closed_port_fails(network):
    pair = await network.pair()
    port = pair.listener.port
    pair.listener.close()

    with pytest.raises(ConnectError, match=f"nothing listens on port {port} of {network.there}"):
        await network.initiator_host.dial(network.there, port, Recorder)
    pair.initiator.transport.write(b"existing connections stay")
    await wait_until(lambda: pair.acceptor.received == b"existing connections stay")
    await pair.close()


@contract
async def listening_on_a_taken_port_fails(network):
    pair = await network.pair()
    port = pair.listener.port

    with pytest.raises(NodeStartError, match="taken"):
        await network.acceptor_host.listen([network.there], [port], Recorder)
    other = await network.acceptor_host.listen([network.there], [port, 0], Recorder)
    assert other.port not in (0, port)
    other.close()
    await pair.close()


@contract
async def transport_knows_the_address_of_the_peer(network):
    pair = await network.pair()

    assert pair.acceptor.transport.get_extra_info("peername")[0] == network.here
    assert pair.initiator.transport.get_extra_info("peername")[0] == network.there
    await pair.close()


@contract
async def cut_holds_data_back_until_the_heal(network):
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
async def cut_holds_data_in_flight_back(network):
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
async def one_way_cut_keeps_the_other_direction(network):
    pair = await network.pair()
    network.cut(back=False)
    pair.initiator.transport.write(b"held back")
    pair.acceptor.transport.write(b"the other direction")
    await wait_until(lambda: pair.initiator.received == b"the other direction")
    await _settle()
    meanwhile = bytes(pair.acceptor.received)
    network.heal()

    await wait_until(lambda: pair.acceptor.received == b"held back")
    assert meanwhile == b""
    await pair.close()


@contract
async def close_behind_a_cut_arrives_after_the_heal(network):
    pair = await network.pair()
    network.cut()
    pair.initiator.transport.write(b"last data")
    pair.initiator.transport.close()
    await _settle()
    meanwhile = list(pair.acceptor.events)
    network.heal()

    await wait_until(lambda: pair.acceptor.events[-1] == "lost")
    assert meanwhile == ["made"]
    assert pair.acceptor.received == b"last data"
    pair.listener.close()


async def _settle(seconds=0.1):
    """Wait, so that an event that must not happen has time to happen."""
    await asyncio.sleep(seconds)


# The networks


@pytest.mark.parametrize("name", CONTRACTS)
def test_tcp_fulfils_the_contract(name):
    run_contract(name, Tcp(1))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", CONTRACTS)
def test_simulated_network_fulfils_the_contract(name, seed):
    run_contract(name, Simulated(seed))


BROKEN_NETWORKS = [
    Mutant(
        "erlmesh.testing.connection:Pipe._deliver",
        "a cut delivers data",
        "if self.is_held or sender.network.is_cut(sender.address, receiver.address) or not self._chunks:",
        "if not self._chunks:",
    ),
    Mutant(
        "erlmesh.testing.connection:Pipe.put",
        "the newest chunk arrives first",
        "self._chunks.append(data)",
        "self._chunks.appendleft(data)",
    ),
    Mutant(
        "erlmesh.testing.connection:Pipe.put",
        "the first chunk of split data is lost",
        "self._chunks.append(data[:cut])",
        "pass",
    ),
    Mutant(
        "erlmesh.testing.connection:Pipe.resume",
        "data held back by a cut is lost",
        "self._schedule(after)",
        "self._chunks.clear()",
    ),
    Mutant(
        "erlmesh.testing.connection:SimulatedTransport.close",
        "close drops written data",
        "self._outgoing.put(None)",
        "self._outgoing.clear()",
    ),
    Mutant(
        "erlmesh.testing.connection:SimulatedTransport.close",
        "the end of a stream is not delivered",
        "self._outgoing.put(None)",
        "pass",
    ),
    Mutant(
        "erlmesh.testing.connection:SimulatedTransport.buffer_drained",
        "a paused writer is never resumed",
        'self._call_soon(self._call_protocol, "resume_writing")',
        "pass",
    ),
    Mutant(
        "erlmesh.testing.network:SimulatedNetwork.cut",
        "a one-way cut cuts both directions",
        "self._cuts.setdefault((sender, receiver), asyncio.get_running_loop().time())",
        "self._cuts.update({(sender, receiver): 0.0, (receiver, sender): 0.0})",
    ),
    Mutant(
        "erlmesh.testing.network:Host.close",
        "a closed listener accepts connections",
        "self._listeners.pop(port, None)",
        "pass",
    ),
]


@pytest.mark.parametrize("mutant", BROKEN_NETWORKS, ids=str)
def test_broken_network_violates_the_contract(mutant):
    assert any(_is_detected(mutant, name, seed) for seed in range(5) for name in CONTRACTS)


def _is_detected(mutant, name, seed):
    try:
        with mutant.applied():
            run_contract(name, Simulated(seed))
    except (Exception, pytest.fail.Exception):
        return True
    return False
