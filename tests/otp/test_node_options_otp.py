"""Options for addresses, hidden nodes and access, each next to a real Erlang node with the same option."""

import asyncio
import contextlib
import sys

import pytest

from cluster import free_port, is_listening
from erlmesh import Atom, FixedPort, Node, NoEpmd, NoProcess, StaticResolver
from erlmesh.core.allow_list import AllowList
from erlmesh.discovery.discovery import Discovery
from erlmesh.discovery.lookup import Lookup
from erlmesh.discovery.sources import parse_sources
from os_process import OsProcess
from polling import run, wait_until, wait_until_async
from pynode import python_environment
from tcp_proxy import tcp_proxy

PONG, PANG = Atom("pong"), Atom("pang")
PORT_OF = "element(2, erl_epmd:port_please(binary_to_list(Name), {127,0,0,1}))"


async def sees(beam, *nodes):
    return await beam.eval_async("lists:sort(nodes())") == list(nodes)


# Hidden


def test_a_hidden_python_node_is_in_no_nodes_list_and_not_in_the_mesh(cluster):
    plato, aristotle = cluster.beam("plato"), cluster.beam("aristotle")
    plato.ping(aristotle.name)
    socrates = cluster.pynode("socrates", hidden=True)

    assert socrates.ping(plato.name)

    assert plato.eval("nodes(hidden)") == [socrates.atom]
    assert plato.nodes() == {aristotle.name}
    assert socrates.nodes() == set()
    assert socrates.eval("node.nodes(hidden=True)") == [plato.name]
    assert plato.eval("global:sync()") == Atom("ok")
    assert aristotle.eval("nodes(connected)") == [plato.atom]  # no node introduced it


def test_a_hidden_beam_is_in_no_nodes_list(cluster, otp):
    socrates, plato = cluster.pynode("socrates"), cluster.beam("plato", otp=otp, arguments=["-hidden"])

    assert plato.ping(socrates.name)

    assert plato.eval("nodes(hidden)") == [socrates.atom]
    assert socrates.nodes() == set()
    assert socrates.eval("node.nodes(hidden=True)") == [plato.name]
    assert socrates.eval("node.global_.statistics().known") == ()


@pytest.mark.parametrize("who_is_hidden", ["python", "beam"])
def test_pg_works_with_a_hidden_node(cluster, otp, who_is_hidden):
    """A hidden Python node starts the exchange itself. With a hidden BEAM one of the two nodes has to."""
    socrates = cluster.pynode("socrates", hidden=who_is_hidden == "python")
    plato = cluster.beam("plato", otp=otp, arguments=["-hidden"] if who_is_hidden == "beam" else [])
    ours = socrates.join(Atom("g"))
    socrates.ping(plato.name)
    theirs = plato.join(Atom("g"))  # its scope starts after the connection

    if who_is_hidden == "beam":
        assert (socrates.members(Atom("g")), plato.members(Atom("g"))) == ([ours], [theirs])
        plato.eval("{pg, N} ! {discover, whereis(pg)}", N=socrates.atom)

    both = sorted([ours, theirs], key=str)
    wait_until(lambda: sorted(socrates.members(Atom("g")), key=str) == both)
    wait_until(lambda: sorted(plato.members(Atom("g")), key=str) == both)
    plato.eval("erlang:disconnect_node(N)", N=socrates.atom)
    wait_until(lambda: socrates.members(Atom("g")) == [ours])
    wait_until(lambda: plato.members(Atom("g")) == [theirs])
    socrates.ping(plato.name)
    if who_is_hidden == "beam":
        socrates.eval("node.pg.discover(PEER)", PEER=plato.name)
    wait_until(lambda: sorted(plato.members(Atom("g")), key=str) == both)
    socrates.eval("node.pg.leave(erlmesh.Atom('g'), me.pid)")
    wait_until(lambda: plato.members(Atom("g")) == [theirs])
    plato.halt()
    wait_until(lambda: socrates.members(Atom("g")) == [])


# Several nodes in one process


def test_several_nodes_in_one_process_are_separate_nodes_to_a_beam(cluster):
    plato = cluster.beam("plato")

    async def main():
        async with (
            Node("socrates@127.0.0.1", cookie="monster") as socrates,
            Node("aristotle@127.0.0.1", cookie="monster", join=[plato.name]) as aristotle,
        ):
            assert await socrates.ping(plato.name)
            await wait_until_async(lambda: set(socrates.nodes()) == {plato.name, aristotle.name}, what="the mesh")
            await wait_until_async(lambda: sees(plato, aristotle.internals.atom, socrates.internals.atom))
            pids = {node.spawn(lambda me: me.receive()) for node in (socrates, aristotle)}
            for pid in pids:
                (socrates if pid.node is socrates.internals.atom else aristotle).pg.join(Atom("g"), pid)
            await plato.eval_async("pg:start(pg)")
            await wait_until_async(lambda: set(socrates.pg.get_members(Atom("g"))) == pids)
            await wait_until_async(lambda: set(aristotle.pg.get_members(Atom("g"))) == pids)

            async def members():
                return set(await plato.eval_async("pg:get_members(g)")) == pids

            await wait_until_async(members)
            assert len({str(pid) for pid in pids}) == 2  # one is <0.…>, the other is not
            await socrates.stop()
            await wait_until_async(
                lambda: {pid.node for pid in aristotle.pg.get_members(Atom("g"))} == {aristotle.internals.atom}
            )
            assert all(str(pid).startswith("<0.") for pid in aristotle.pg.get_members(Atom("g")))

    run(main())


def test_another_node_of_the_process_takes_over_as_epmd(cluster_without_epmd):
    async def main():
        first, second = (Node(f"{name}@127.0.0.1", cookie="monster") for name in ("first", "second"))
        async with started_after(first, second):
            plato = await asyncio.to_thread(cluster_without_epmd.beam, "plato")
            await first.stop()
            creation = second.internals.creation

            async def found():
                return await plato.eval_async("net_adm:ping('second@127.0.0.1')") == PONG

            await wait_until_async(found)
            assert second.internals.creation == creation

    run(main())


@contextlib.asynccontextmanager
async def started_after(first, second):
    async with first, second:
        yield


# Cookies


def test_each_peer_can_have_a_cookie_of_its_own(cluster):
    plato, aristotle = cluster.beam("plato", cookie="p"), cluster.beam("aristotle", cookie="a")
    socrates = cluster.pynode("socrates", cookies={plato.name: "p"}, cookie="a")

    assert socrates.ping(plato.name)
    assert aristotle.ping(socrates.name)


def test_the_cookie_of_a_peer_can_be_changed_at_run_time_on_either_side(cluster):
    plato, socrates = cluster.beam("plato", cookie="p"), cluster.pynode("socrates")
    assert not socrates.ping(plato.name)
    assert not plato.ping(socrates.name)

    socrates.eval("node.set_cookie(PEER, 'p')", PEER=plato.name)
    assert socrates.ping(plato.name)

    socrates.eval("node.disconnect(PEER), node.set_cookie(PEER, 'q')", PEER=plato.name)
    assert not plato.ping(socrates.name)
    plato.eval("erlang:set_cookie(N, q)", N=socrates.atom)
    assert plato.ping(socrates.name)

    aristotle = cluster.beam("aristotle", cookie="everybody")
    assert not socrates.ping(aristotle.name)
    socrates.eval("node.set_cookie(node.name, 'everybody')")
    assert socrates.ping(aristotle.name)


# Allowed nodes


@pytest.mark.parametrize("allow", [["plato@127.0.0.1"], ["plato@"], ["p*@127.0.*"]])
def test_only_allowed_nodes_connect_in_either_direction(cluster, allow):
    plato, aristotle = cluster.beam("plato"), cluster.beam("aristotle")
    socrates = cluster.pynode("socrates", allow=allow)

    assert plato.ping(socrates.name)
    assert not aristotle.ping(socrates.name)
    assert not socrates.ping(aristotle.name)
    assert "is not on the allow-list" in socrates.eval("node.last_connect_error(PEER)", PEER=aristotle.name)

    socrates.eval("node.allow([PEER])", PEER=aristotle.name)
    assert aristotle.ping(socrates.name)


def test_a_refusal_by_the_allow_list_of_a_beam_is_reported(cluster, otp):
    plato, socrates = cluster.beam("plato", otp=otp), cluster.pynode("socrates")
    plato.eval("ok = net_kernel:allow(['somebody@127.0.0.1'])")

    assert not socrates.ping(plato.name)

    assert "not_allowed" in socrates.eval("node.last_connect_error(PEER)", PEER=plato.name)


@pytest.mark.parametrize(
    "entry", ["plato@127.0.0.1", "127.0.0.1", "plato@", "plato", "@127.0.0.1", "p*@127.0.0.1", "localhost"]
)
def test_an_allow_entry_matches_as_in_otp(cluster, entry):
    plato = cluster.beam("plato")
    socrates = cluster.beam("socrates")
    try:
        ours = AllowList([entry]).allows(plato.name)
    except ValueError:
        ours = False

    socrates.eval("ok = net_kernel:allow([E])", E=Atom(entry))

    assert plato.ping(socrates.name) is (ours and "*" not in entry)  # only erlmesh has patterns


# Listening and advertised addresses


def test_the_first_free_port_of_a_range_is_registered_with_epmd(cluster):
    plato, first = cluster.beam("plato"), free_port()
    one = cluster.pynode("one", ports=[first, first + 1])
    two = cluster.pynode("two", ports=[first, first + 1])

    assert [one.eval("node.internals.port"), two.eval("node.internals.port")] == [first, first + 1]
    assert plato.eval(PORT_OF, Name="two") == first + 1
    assert plato.ping(two.name)


def test_the_advertised_port_is_registered_instead_of_the_bound_one(cluster):
    plato, told, bound = cluster.beam("plato"), free_port(), free_port()

    async def main():
        options = {"listen": "127.0.0.9", "ports": [bound], "advertise_port": told}
        async with Node("socrates@127.0.0.1", cookie="monster", **options) as socrates:
            assert await plato.eval_async("net_adm:ping(N)", N=socrates.internals.atom) == PANG
            assert await plato.eval_async(PORT_OF, Name="socrates") == told
            async with tcp_proxy(("127.0.0.1", told), ("127.0.0.9", bound)):
                assert await plato.eval_async("net_adm:ping(N)", N=socrates.internals.atom) == PONG

    run(main())


def test_a_node_that_listens_on_every_interface_is_named_after_one(cluster):
    plato, socrates = cluster.beam("plato"), cluster.pynode("socrates", listen=["*"])

    assert plato.ping(socrates.name)
    assert plato.eval(
        "{ok, S} = gen_tcp:connect({127,0,0,77}, P, []), gen_tcp:close(S)", P=socrates.eval("node.internals.port")
    )


# Without EPMD


def test_nodes_with_a_fixed_port_need_no_epmd(cluster_without_epmd, otp):
    cluster, port = cluster_without_epmd, free_port()
    fixed = ["-erl_epmd_port", str(port)]

    def interface(last):
        return [*fixed, "-kernel", "inet_dist_use_interface", f"{{127,0,0,{last}}}"]

    plato = cluster.beam("plato@127.0.0.2", arguments=interface(2), otp=otp)
    aristotle = cluster.beam("aristotle@127.0.0.3", arguments=interface(3), otp=otp)

    async def main():
        async with Node("socrates@127.0.0.4", cookie="monster", epmd=FixedPort(port)) as socrates:
            assert socrates.internals.port == port
            assert socrates.internals.creation >= 4
            assert await socrates.ping(plato.name)
            assert await aristotle.eval_async("net_adm:ping(N)", N=socrates.internals.atom) == PONG
            await wait_until_async(lambda: set(socrates.nodes()) == {plato.name, aristotle.name})
            await wait_until_async(lambda: sees(plato, aristotle.atom, socrates.internals.atom))
            with pytest.raises(NoProcess):
                await socrates.call((Atom("nobody"), plato.atom), Atom("x"))

    run(main())
    assert not is_listening(cluster.epmd_port)  # no EPMD was started


def test_a_custom_resolver_gives_the_addresses_of_nodes(cluster):
    port = free_port()
    listen = ["-kernel", "inet_dist_listen_min", str(port), "inet_dist_listen_max", str(port)]
    plato = cluster.beam("plato@127.0.0.2", arguments=listen)

    async def main():
        table = StaticResolver({"plato@127.0.0.2": ("127.0.0.1", port)})
        async with Node("socrates@127.0.0.1", cookie="monster", epmd=NoEpmd(), resolver=table) as socrates:
            assert await socrates.ping(plato.name)
            assert not await socrates.ping("aristotle@127.0.0.2")
            assert "its resolver has no entry" in socrates.last_connect_error("aristotle@127.0.0.2")
            assert await plato.eval_async("{ok, L} = erl_epmd:names({127,0,0,1}), length(L)") == 1

    run(main())


# IPv6


def test_nodes_connect_over_ipv6(cluster):
    plato = cluster.beam("plato@::1", arguments=["-proto_dist", "inet6_tcp"])
    socrates = cluster.pynode("socrates@::1")
    aristotle = cluster.pynode("aristotle@::1")

    assert socrates.ping(plato.name)
    assert plato.ping(aristotle.name)

    wait_until(lambda: plato.nodes() == {socrates.name, aristotle.name})


def test_a_beam_on_ipv6_registers_with_a_python_node_that_is_the_epmd(cluster_without_epmd):
    cluster = cluster_without_epmd
    socrates = cluster.pynode("socrates@::1")
    plato = cluster.beam("plato@::1", arguments=["-proto_dist", "inet6_tcp"])

    assert plato.ping(socrates.name)
    assert plato.eval("{ok, L} = erl_epmd:names({0,0,0,0,0,0,0,1}), length(L)") == 2


# From the command line


def test_the_command_line_starts_a_node_without_epmd_that_a_beam_connects_to(cluster_without_epmd):
    cluster, port = cluster_without_epmd, free_port()
    listen = ["-erl_epmd_port", str(port), "-kernel", "inet_dist_use_interface", "{127,0,0,2}"]
    plato = cluster.beam("plato@127.0.0.2", arguments=listen)
    command = [sys.executable, "-m", "erlmesh", "start", "--name", "socrates@127.0.0.3", "--cookie", "monster"]
    environment = {**python_environment(cluster.epmd_port, cluster.home), "ERLMESH_ERL_EPMD_PORT": str(port)}
    socrates = OsProcess("erlmesh start", command, environment)
    cluster.processes.append(socrates)
    wait_until(lambda: socrates.logged("is up"))

    assert plato.ping("socrates@127.0.0.3")
    assert not is_listening(cluster.epmd_port)


# Discovery


def test_a_beam_is_discovered_through_epmd_and_again_after_a_restart(cluster):
    plato = cluster.beam("plato")

    async def main():
        look = Lookup(parse_sources(["dns:127.0.0.1"]), epmd_port=cluster.epmd_port)
        async with Node("socrates@127.0.0.1", cookie="monster") as socrates, Discovery(socrates, look):
            await wait_until_async(lambda: socrates.nodes() == [plato.name], what="plato met")
            plato.kill()
            await wait_until_async(lambda: socrates.nodes() == [])
            await asyncio.to_thread(cluster.beam, "plato")
            await wait_until_async(lambda: socrates.nodes() == [plato.name], 30, what="plato met again")

    run(main())


def test_an_answer_without_a_node_disconnects_no_node(cluster, tmp_path):
    plato, file = cluster.beam("plato"), tmp_path / "peers"
    file.write_text(plato.name)

    async def main():
        look = Lookup(parse_sources([f"file:{file}"]), epmd_port=cluster.epmd_port)
        async with Node("socrates@127.0.0.1", cookie="monster") as socrates, Discovery(socrates, look) as discovery:
            await wait_until_async(lambda: socrates.nodes() == [plato.name], what="plato met")
            file.write_text("")
            discovery.lookup_now()
            await wait_until_async(lambda: not discovery.found)
            assert socrates.nodes() == [plato.name]

    run(main())
