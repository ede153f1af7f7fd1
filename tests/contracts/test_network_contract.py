"""What a node relies on, asked of both networks; and whether a network that lies would be found out."""

import asyncio
from random import Random

import pytest
from mutants.mutation import Mutant
from networks import Recorder, Simulated, Tcp, until

from erlmesh.errors import ConnectError, NodeStartError

QUESTIONS = {}


def question(ask):
    """``ask(network)`` is a coroutine; it raises if the answer is wrong."""
    QUESTIONS[ask.__name__.replace("_", " ")] = ask
    return ask


def ask(name, network):
    async def main():
        try:
            await QUESTIONS[name](network)
        finally:
            await network.close()

    network.run(main)


# The questions


@question
async def what_is_written_arrives_whole_and_in_order_both_ways(network):
    pair, chance = await network.pair(), Random(1)
    sent = {pair.caller: bytearray(), pair.called: bytearray()}
    for number in range(200):
        for end in sent:
            data = bytes([number]) * chance.choice((1, 2, 100, 5000))
            sent[end] += data
            end.transport.write(data)
        if number % 20 == 0:
            await until(lambda: pair.called.received and pair.caller.received)

    await until(lambda: len(pair.called.received) >= len(sent[pair.caller]))
    await until(lambda: len(pair.caller.received) >= len(sent[pair.called]))
    assert pair.called.received == sent[pair.caller]
    assert pair.caller.received == sent[pair.called]
    await pair.close()


@question
async def who_closes_has_said_all_it_wrote(network):
    pair = await network.pair()
    pair.caller.transport.write(b"x" * 300_000)
    pair.caller.transport.close()

    assert pair.caller.transport.is_closing()
    await until(lambda: pair.called.told[-1] == "lost")
    assert pair.called.received == b"x" * 300_000
    assert pair.called.error is None
    await until(lambda: pair.caller.told[-1] == "lost")
    pair.listener.close()


@question
async def both_ends_are_told_once_in_this_order(network):
    pair = await network.pair()
    pair.caller.transport.write(b"hello")
    await until(lambda: pair.called.received)
    pair.caller.transport.abort()
    await until(lambda: pair.called.told[-1] == "lost" and pair.caller.told[-1] == "lost")

    assert pair.called.told == ["made", "data", "lost"]
    assert pair.caller.told == ["made", "lost"]
    pair.listener.close()


@question
async def after_the_end_writing_is_harmless(network):
    pair = await network.pair()
    pair.caller.transport.close()
    pair.caller.transport.write(b"nobody hears this")
    await until(lambda: pair.called.told[-1] == "lost")

    assert pair.called.received == b""
    pair.listener.close()


@question
async def who_writes_more_than_is_read_is_told_to_pause_and_to_go_on(network):
    pair = await network.pair()
    network.stop_reading(pair.called)
    written = 0
    while "pause" not in pair.caller.told:
        pair.caller.transport.write(b"x" * 100_000)
        written += 100_000
        assert written < 1 << 26
        await asyncio.sleep(0)
    network.read_on(pair.called)

    await until(lambda: pair.caller.told[-1] == "resume")
    await until(lambda: len(pair.called.received) == written)
    await pair.close()


@question
async def where_nobody_listens_nobody_answers(network):
    pair = await network.pair()
    port = pair.listener.port
    pair.listener.close()

    with pytest.raises(ConnectError, match=f"nobody listens on port {port} of {network.there}"):
        await network.dialler.dial(network.there, port, Recorder)
    pair.caller.transport.write(b"what is there lives on")
    await until(lambda: pair.called.received == b"what is there lives on")
    await pair.close()


@question
async def a_port_that_is_taken_is_not_listened_on(network):
    pair = await network.pair()
    port = pair.listener.port

    with pytest.raises(NodeStartError, match="taken"):
        await network.answerer.listen([network.there], [port], Recorder)
    other = await network.answerer.listen([network.there], [port, 0], Recorder)
    assert other.port not in (0, port)
    other.close()
    await pair.close()


@question
async def the_peer_has_an_address(network):
    pair = await network.pair()

    assert pair.called.transport.get_extra_info("peername")[0] == network.here
    assert pair.caller.transport.get_extra_info("peername")[0] == network.there
    await pair.close()


@question
async def through_a_cut_nothing_passes_and_afterwards_all_of_it_in_order(network):
    pair = await network.pair()
    pair.caller.transport.write(b"before ")
    await until(lambda: pair.called.received == b"before ")
    network.cut()
    for number in range(50):
        pair.caller.transport.write(b"%d " % number)
        pair.called.transport.write(b"%d " % number)
    await _a_while()
    meanwhile = bytes(pair.called.received), bytes(pair.caller.received)
    network.heal()

    wanted = b"".join(b"%d " % number for number in range(50))
    await until(lambda: len(pair.called.received) >= len(wanted) + 7 and len(pair.caller.received) >= len(wanted))
    assert meanwhile == (b"before ", b"")
    assert (pair.called.received, pair.caller.received) == (b"before " + wanted, wanted)
    await pair.close()


@question
async def what_is_under_way_when_a_cut_comes_waits_for_its_end(network):
    pair = await network.pair()
    for number in range(20):
        pair.caller.transport.write(b"%d " % number)
        network.cut()
        pair.caller.transport.write(b"- ")
        await _a_while(0.02)
        network.heal()
        pair.caller.transport.write(b"+ ")

    wanted = b"".join(b"%d - + " % number for number in range(20))
    await until(lambda: len(pair.called.received) >= len(wanted))
    assert pair.called.received == wanted
    await pair.close()


@question
async def a_cut_of_one_way_leaves_the_other(network):
    pair = await network.pair()
    network.cut(back=False)
    pair.caller.transport.write(b"into the void")
    pair.called.transport.write(b"I do not hear you")
    await until(lambda: pair.caller.received == b"I do not hear you")
    await _a_while()
    meanwhile = bytes(pair.called.received)
    network.heal()

    await until(lambda: pair.called.received == b"into the void")
    assert meanwhile == b""
    await pair.close()


@question
async def who_closes_behind_a_cut_is_heard_after_it(network):
    pair = await network.pair()
    network.cut()
    pair.caller.transport.write(b"farewell")
    pair.caller.transport.close()
    await _a_while()
    meanwhile = list(pair.called.told)
    network.heal()

    await until(lambda: pair.called.told[-1] == "lost")
    assert meanwhile == ["made"]
    assert pair.called.received == b"farewell"
    pair.listener.close()


async def _a_while(seconds=0.1):
    """For what must not happen: with time to happen in."""
    await asyncio.sleep(seconds)


# Who is asked


@pytest.mark.parametrize("name", QUESTIONS)
def test_tcp_answers(name):
    ask(name, Tcp(1))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", QUESTIONS)
def test_the_simulated_network_answers_the_same(name, seed):
    ask(name, Simulated(seed))


LIARS = [
    Mutant(
        "erlmesh.testing.network:_Wire._arrive",
        "bytes leak through a cut",
        "if sender.internet.is_cut(sender.address, receiver.address) or not self._pieces:",
        "if not self._pieces:",
    ),
    Mutant(
        "erlmesh.testing.network:_Wire.put",
        "the newest piece arrives first",
        "self._pieces.append(data)",
        "self._pieces.appendleft(data)",
    ),
    Mutant(
        "erlmesh.testing.network:_Wire.put",
        "of what arrives in pieces the first is lost",
        "self._pieces.append(data[:cut])",
        "pass",
    ),
    Mutant(
        "erlmesh.testing.network:_Wire.go_on",
        "what a cut has held back is lost",
        "self._schedule(after)",
        "self._pieces.clear()",
    ),
    Mutant(
        "erlmesh.testing.network:_Transport.close",
        "who closes loses what it has written",
        "self._out.put(None)",
        "self._out.clear()",
    ),
    Mutant(
        "erlmesh.testing.network:_Transport.close",
        "the end of a stream is not told",
        "self._out.put(None)",
        "pass",
    ),
    Mutant(
        "erlmesh.testing.network:_Transport.drained",
        "who was told to pause is never told to go on",
        'self._soon(self._tell, "resume_writing")',
        "pass",
    ),
    Mutant(
        "erlmesh.testing.network:Internet.cut",
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


@pytest.mark.parametrize("liar", LIARS, ids=str)
def test_a_network_that_lies_is_found_out(liar):
    assert any(_is_found_out(liar, name, seed) for seed in range(5) for name in QUESTIONS)


def _is_found_out(liar, name, seed):
    try:
        with liar.applied():
            ask(name, Simulated(seed))
    except (Exception, pytest.fail.Exception):
        return True
    return False
