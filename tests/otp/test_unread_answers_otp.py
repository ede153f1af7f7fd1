"""A BEAM that asks and does not read the answers: they are bounded, and the connection does not end."""

import asyncio

from cluster import free_port
from erlmesh import Node
from polling import run, wait_until_async
from tcp_proxy import tcp_proxy

COUNT, ANSWER = 400, 256 * 1024  # 100 MiB: more than the limit of what may wait for a node
ASK = """
Client = spawn(fun() ->
    [{server, Server} ! {self(), binary:copy(<<0>>, 20000)} || _ <- lists:seq(1, Count)],
    Count = length([receive Answer when byte_size(Answer) =:= Size -> ok end || _ <- lists:seq(1, Count)]),
    register(all_answered, self()),
    receive stop -> ok end
end), ok
"""


def test_requests_of_a_beam_wait_while_it_does_not_read_the_answers(cluster, otp):
    plato, told, bound = cluster.beam("plato", otp=otp), free_port(), free_port()

    async def main():
        reads, handled = asyncio.Event(), []
        reads.set()
        async with Node("socrates@127.0.0.1", cookie="monster", ports=[bound], advertise_port=told) as socrates:

            def answer(message):
                handled.append(message)
                server.send(message[0], bytes(ANSWER))

            server = socrates.internals.spawn_handler(answer, name="server")
            async with tcp_proxy(("127.0.0.1", told), ("127.0.0.1", bound), reads):
                await plato.eval_async("pong = net_adm:ping(N)", N=socrates.internals.atom)
                protocol = socrates.internals._connections.connection(plato.name).protocol
                reads.clear()
                bindings = {"Server": socrates.internals.atom, "Count": COUNT, "Size": ANSWER}
                await plato.eval_async(ASK, **bindings)
                await wait_until_async(lambda: is_suspended(protocol))
                assert len(handled) < COUNT

                reads.set()

                await wait_until_async(lambda: all_answered(plato))
                assert len(handled) == COUNT
                assert socrates.nodes() == [plato.name]
                assert socrates.internals.last_disconnect_reason(plato.name) is None

    run(main())


async def is_suspended(protocol):
    return protocol._suspender is not None and protocol._suspender.is_suspended


async def all_answered(beam):
    return await beam.eval_async("is_pid(whereis(all_answered))")
