"""Sources of discovery, the times of lookups and attempts, and the results of a lookup."""

import asyncio
import itertools
import logging
import random

import pytest

from erlmesh import Node
from erlmesh.core.reconnect_policy import DISCOVERY_MAX_BACKOFF
from erlmesh.discovery.candidates import LOOKUP_INTERVAL, NAME_RETENTION, PeerCandidates
from erlmesh.discovery.discovery import Discovery
from erlmesh.discovery.lookup import Lookup
from erlmesh.discovery.sources import Host, Source, SourceKind, parse_entries, parse_sources
from erlmesh.errors import NodeStartError
from erlmesh.net.epmd import Epmd
from erlmesh.net.epmd_server import EpmdServer
from skips import import_or_skip

# Sources


def test_a_source_is_a_kind_and_a_value():
    assert parse_sources(["dns:nodes", "static:a@h,b@h  file:/etc/peers"]) == [
        Source(SourceKind.DNS, "nodes"),
        Source(SourceKind.STATIC, "a@h,b@h"),
        Source(SourceKind.FILE, "/etc/peers"),
    ]
    assert str(parse_sources(["srv:_epmd._tcp.nodes"])[0]) == "srv:_epmd._tcp.nodes"


@pytest.mark.parametrize("text", ["nodes", "dns:", ":x", "DNS:x", "static:a@b@c", "static:a b@@c"])
def test_an_invalid_source_is_refused_with_what_to_write(text):
    with pytest.raises(NodeStartError, match=r"dns:NAME|neither a node"):
        parse_sources([text])


def test_entries_are_nodes_and_hosts():
    text = "plato@10.0.0.7, 10.0.0.8 # both\n\n# none\nhost.example.org\na@::1"

    assert parse_entries(text, "x") == ["plato@10.0.0.7", Host("10.0.0.8"), Host("host.example.org"), "a@::1"]


# Candidates


def new_candidates(now=0.0):
    return PeerCandidates("me@h", random.Random(1), now)


def test_a_found_node_is_due_soon_and_the_node_itself_never():
    candidates = new_candidates()
    assert candidates.lookup_due(0.0)

    candidates.lookup_finished(["me@h", "a@h", "b@h"], complete=True, now=0.0)

    assert candidates.names == ["a@h", "b@h"]
    assert sorted(candidates.due([], 0.2)) == ["a@h", "b@h"]
    assert candidates.due([], 0.2) == []


def test_the_backoff_grows_while_attempts_fail_and_starts_anew_after_success():
    candidates, now, calls = new_candidates(), 0.0, []
    candidates.lookup_finished(["a@h"], complete=True, now=now)
    while len(calls) < 12:
        now = max(now, min(each.next_attempt for each in candidates._candidates.values()))
        calls += [now] * len(candidates.due([], now))

    pauses = [later - earlier for earlier, later in itertools.pairwise(calls)]
    assert 0.75 <= pauses[0] <= 1.25
    assert pauses[3] > pauses[0] * 4
    assert max(pauses) <= DISCOVERY_MAX_BACKOFF * 1.25

    assert candidates.due(["a@h"], now + 1000) == []
    again = now + 1000 + 1.25
    assert candidates.due([], again) == ["a@h"]
    assert candidates.due([], again + 1.25) == ["a@h"]


def test_only_a_complete_lookup_drops_a_name_unless_the_name_is_very_old():
    candidates = new_candidates()
    candidates.lookup_finished(["a@h", "b@h"], complete=True, now=0.0)

    candidates.lookup_finished(["a@h"], complete=False, now=10.0)
    assert candidates.names == ["a@h", "b@h"]
    candidates.lookup_finished(["a@h"], complete=False, now=NAME_RETENTION + 1)
    assert candidates.names == ["a@h"]
    candidates.lookup_finished([], complete=True, now=NAME_RETENTION + 2)
    assert candidates.names == []


def test_a_node_that_says_that_it_exists_is_due_soon_once():
    candidates = new_candidates()
    for name in ("a@h", "me@h"):
        candidates.found_one(name, 0.0)
    assert candidates.due([], 0.2) == ["a@h"]

    candidates.found_one("a@h", 0.2)

    assert candidates.due([], 0.5) == []


def test_lookups_are_frequent_until_a_node_is_found():
    candidates, now, lookups = new_candidates(), 0.0, []
    for _ in range(6):
        assert candidates.lookup_due(now)
        lookups.append(now)
        candidates.lookup_finished([], complete=True, now=now)
        now = candidates.next_deadline()

    assert lookups[1] - lookups[0] <= 2.5
    assert LOOKUP_INTERVAL * 0.75 <= lookups[-1] - lookups[-2] <= LOOKUP_INTERVAL * 1.25
    assert not candidates.lookup_due(lookups[-1] + 1)


# Lookups


def find_nodes(*texts, epmd_port=1, **options):
    return asyncio.run(Lookup(parse_sources(texts), epmd_port=epmd_port, **options).find_nodes())


def test_a_list_and_a_file_name_nodes(tmp_path):
    file = tmp_path / "peers"
    file.write_text("b@h\nc@h\n")

    assert find_nodes("static:a@h,b@h", f"file:{file}") == (["a@h", "b@h", "c@h"], True)
    file.write_text("b@h\nno node!\n")
    assert find_nodes("static:a@h", f"file:{file}") == (["a@h"], False)
    assert find_nodes(f"file:{tmp_path}/none") == ([], False)


def test_the_epmd_of_each_host_is_asked_for_its_nodes():
    async def main():
        server, port = EpmdServer(0), 0
        for port in random.Random().sample(range(15000, 32000), 20):
            server = EpmdServer(port)
            try:
                await server.start(["127.0.0.1"])
            except OSError:
                continue
            break
        nodes = [Epmd(port, embedded=False) for _ in range(2)]
        for node, name in zip(nodes, ("plato", "socrates"), strict=True):
            await node.register(name, 9, hosts=["127.0.0.1"], hidden=False)
        found = await Lookup(parse_sources(["dns:127.0.0.1"]), epmd_port=port).find_nodes()
        partly = await Lookup(parse_sources(["static:127.0.0.1,127.0.0.77"]), epmd_port=port).find_nodes()
        for node in nodes:
            await node.close()
        server.close()
        return found, partly

    found, partly = asyncio.run(main())

    assert (sorted(found[0]), found[1]) == (["plato@127.0.0.1", "socrates@127.0.0.1"], True)
    assert (sorted(partly[0]), partly[1]) == (["plato@127.0.0.1", "socrates@127.0.0.1"], False)


def test_what_an_epmd_lists_and_is_no_node_name_is_counted_and_not_called(caplog):
    listed = [b"plato", b"a" * 245, b"a" * 250, b"\x1b[2Jx", "a\u202eb".encode()]

    async def answer(reader, writer):
        await reader.read(100)
        writer.write(bytes(4) + b"".join(b"name %b at port 9100\n" % name for name in listed))
        writer.close()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            lookup = Lookup(parse_sources(["dns:127.0.0.1"]), epmd_port=server.sockets[0].getsockname()[1])
            for _ in range(3):
                found = await lookup.find_nodes()
        return found

    caplog.set_level(logging.DEBUG, "erlmesh")

    assert asyncio.run(main()) == (["plato@127.0.0.1", f"{'a' * 245}@127.0.0.1"], True)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("erlmesh")] == [
        "discovery: 127.0.0.1: 3 entries of its EPMD are not names of nodes, or too many: ignored"
    ]


def test_without_epmd_the_nodes_of_all_hosts_have_one_name():
    assert find_nodes("static:10.0.0.1,10.0.0.2", node_basename="app") == (["app@10.0.0.1", "app@10.0.0.2"], True)


def test_an_unknown_dns_name_fails_only_its_own_source():
    assert find_nodes("dns:no-such-host.invalid", "static:a@h") == (["a@h"], False)


class Srv(asyncio.DatagramProtocol):
    """A name server with two SRV records for any question."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        dns = import_or_skip("dns.message")
        rrset = import_or_skip("dns.rrset")
        question = dns.from_wire(data)
        answer = dns.make_response(question)
        name = question.question[0].name
        if "nodes" in str(name):
            records = ["0 0 4370 socrates-0.nodes.local.", "0 0 4370 socrates-1.nodes.local."]
            answer.answer.append(rrset.from_text(name, 5, "IN", "SRV", *records))
        self.transport.sendto(answer.to_wire(), address)


def test_srv_records_give_hosts_and_epmd_ports():
    library = import_or_skip("dns.asyncresolver")

    async def main():
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Srv, local_addr=("127.0.0.1", 0))
        resolver = library.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], transport.get_extra_info("sockname")[1]
        here = Lookup(
            parse_sources(["srv:_epmd._tcp.nodes.local"]), epmd_port=1, node_basename="app", resolver=resolver
        )
        nothing = Lookup(
            parse_sources(["srv:_epmd._tcp.other.local"]), epmd_port=1, node_basename="app", resolver=resolver
        )
        try:
            return await here.find_nodes(), await here._read_entries(here.sources[0]), await nothing.find_nodes()
        finally:
            transport.close()

    found, hosts, nothing = asyncio.run(main())

    assert (sorted(found[0]), found[1]) == (["app@socrates-0.nodes.local", "app@socrates-1.nodes.local"], True)
    assert sorted(hosts, key=str) == [Host("socrates-0.nodes.local", 4370), Host("socrates-1.nodes.local", 4370)]
    assert nothing == ([], False)


# What joined() waits for


class Answers:
    """A lookup that returns what a test says."""

    def __init__(self, kind, names, *, complete):
        self.sources = (Source(kind, ""),)
        self.found = names, complete

    async def find_nodes(self):
        return self.found


class GossipThatHearsNothing:
    max_nodes = 1

    @staticmethod
    def names(_now):
        return []


@pytest.mark.parametrize(
    ("kind", "found", "complete", "names"),
    [
        (SourceKind.DNS, [], True, []),
        (SourceKind.DNS, [], False, None),
        (SourceKind.DNS, ["a@h"], False, ["a@h"]),
        (SourceKind.GOSSIP, [], True, None),
    ],
)
def test_peers_are_known_after_a_complete_lookup_or_when_one_is_found(kind, found, complete, names):
    async def main():
        discovery = Discovery(Node("me@127.0.0.1", cookie="c"), Answers(kind, found, complete=complete))
        assert discovery._peer_names() is None
        discovery._gossips = [GossipThatHearsNothing] * (kind is SourceKind.GOSSIP)

        await discovery._run_lookup()

        assert discovery._peer_names() == names

    asyncio.run(main())
