"""Discovery by libcluster's gossip: datagrams, settings, what is kept and said, and the sockets."""

import asyncio
import itertools
import logging
import random
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlmesh import Node
from erlmesh.discovery.discovery import Discovery
from erlmesh.discovery.gossip import Gossip, open_socket
from erlmesh.discovery.gossip_book import INTERVAL, MAX_NAMES, QUIET, RETENTION, GossipBook
from erlmesh.discovery.gossip_messages import GossipCipher, Malformed, encode_heartbeat, parse_heartbeat
from erlmesh.discovery.gossip_settings import MAX_OPEN_NODES, MAX_SECRET_NODES, GossipSettings, parse_gossip
from erlmesh.discovery.lookup import Lookup, check_sources
from erlmesh.discovery.sources import parse_sources
from erlmesh.errors import NodeStartError

HEARTBEAT = b"heartbeat::\x83t\x00\x00\x00\x01w\x04nodew\x0ba@127.0.0.1"

# Datagrams


def test_a_heartbeat_is_the_text_and_the_term_of_a_map():
    assert encode_heartbeat("a@127.0.0.1") == HEARTBEAT
    assert parse_heartbeat(HEARTBEAT) == "a@127.0.0.1"


@pytest.mark.parametrize("key", [b"w\x04", b"v\x00\x04", b"d\x00\x04", b"s\x04"], ids=["utf8", "long", "old", "small"])
@pytest.mark.parametrize("name", [b"w\x03", b"v\x00\x03", b"d\x00\x03", b"s\x03"], ids=["utf8", "long", "old", "small"])
def test_every_encoding_of_an_atom_is_understood(key, name):
    assert parse_heartbeat(b"heartbeat::\x83t\x00\x00\x00\x01" + key + b"node" + name + b"a@h") == "a@h"


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"heartbeat::",
        HEARTBEAT[:-1],
        HEARTBEAT + b"x",
        HEARTBEAT.replace(b"\x01", b"\x02"),
        HEARTBEAT.replace(b"node", b"name"),
        HEARTBEAT.replace(b"a@", b"a "),
        HEARTBEAT.replace(b"a@127.0.0.1", b"a@127.0.\xe9.1"),
        HEARTBEAT.replace(b"w\x0ba@127.0.0.1", b"m\x00\x00\x00\x0ba@127.0.0.1"),
        b"heartbeat::\x83t\x00\x00\x00\x01w\x04nodev\xff\xff" + b"a@" + b"h" * 65533,
        b"heartbeat::\x83t\x00\x00\x00\x01w\x04nodev\x01\x00" + b"a@" + b"h" * 254,
    ],
    ids=["empty", "text", "short", "long", "pairs", "key", "blank", "latin", "binary", "huge", "name too long"],
)  # fmt: skip
def test_other_datagrams_are_malformed(datagram):
    with pytest.raises(Malformed):
        parse_heartbeat(datagram)


@given(st.binary(max_size=200), st.integers(0, 60), st.binary(max_size=4))
def test_any_bytes_are_a_name_or_malformed(data, position, changed):
    mutated = HEARTBEAT[:position] + changed + HEARTBEAT[position + len(changed) :]
    cipher = GossipCipher(b"secret")
    for datagram in (data, b"heartbeat::" + data, mutated):
        for read in (parse_heartbeat, cipher.decrypt):
            try:
                assert read(datagram)
            except Malformed:
                continue


@settings(max_examples=30)
@given(st.binary(min_size=1, max_size=40), st.integers(1, 200))
def test_what_one_node_encrypts_another_one_with_the_secret_decrypts(secret, length):
    heartbeat = encode_heartbeat("a@" + "h" * length)
    datagram = GossipCipher(secret).encrypt(heartbeat)

    assert GossipCipher(secret).decrypt(datagram) == heartbeat
    assert len(datagram) % 16 == 0
    assert b"heartbeat" not in datagram
    assert GossipCipher(secret).encrypt(heartbeat) != datagram
    for wrong in (GossipCipher(secret + b"x"), None):
        with pytest.raises(Malformed, match="secret"):
            wrong.decrypt(datagram) if wrong else parse_heartbeat(datagram)


def test_a_datagram_that_a_beam_has_encrypted():
    """Made with ``crypto:crypto_one_time(aes_256_cbc, crypto:hash(sha256, <<"somepassword">>), Iv, Text, true)``."""
    datagram = bytes(range(16)) + bytes.fromhex(
        "0293fcf646d248542d82eea283216c73c7370123217699486aae4f07a44089035b732433424c8511568cd5507173456a"
    )

    assert GossipCipher(b"somepassword", bytes).decrypt(datagram) == HEARTBEAT
    assert GossipCipher(b"somepassword", lambda count: bytes(range(count))).encrypt(HEARTBEAT) == datagram


def test_a_heartbeat_without_encryption_says_so():
    with pytest.raises(Malformed, match="not encrypted"):
        GossipCipher(b"secret").decrypt(HEARTBEAT)


def test_a_wrong_padding_is_malformed():
    cipher = GossipCipher(b"secret")
    text = HEARTBEAT.ljust(46, b" ") + b"\x01\x02"
    vector_and_blocks = cipher.encrypt(text)[:-16]  # without the block of right padding

    with pytest.raises(Malformed, match="another secret"):
        cipher.decrypt(vector_and_blocks)


# Settings


def test_settings():
    assert parse_gossip("multicast", {}) == GossipSettings("233.252.1.32", 45892, None, 1, None)
    assert parse_gossip("multicast", {}).is_multicast
    assert not parse_gossip("broadcast", {}).is_multicast
    assert parse_gossip("239.1.2.3,port=5,interface=10.0.0.8,ttl=4", {"ERLMESH_GOSSIP_SECRET": "s"}) == (
        GossipSettings("239.1.2.3", 5, "10.0.0.8", 4, b"s")
    )
    assert "s3cret" not in repr(GossipSettings(secret=b"s3cret"))


def test_the_secret_is_in_a_file(tmp_path):
    file = tmp_path / "secret"
    file.write_bytes(b" a secret\n")
    assert parse_gossip(f"multicast,secret-file={file}", {"ERLMESH_GOSSIP_SECRET": "s"}).secret == b" a secret"

    file.write_bytes(b"\n")
    for path in (file, tmp_path / "none"):
        with pytest.raises(NodeStartError, match="the secret of gossip"):
            parse_gossip(f"multicast,secret-file={path}", {})


@pytest.mark.parametrize(
    "value",
    [
        *("x", "multicast,port=0", "multicast,port=65536", "multicast,ttl=x", "multicast,colour=1", "::1"),
        *("multicast,port=1,port=2", "multicast,interface=eth0", "multicast,"),
    ],
)
def test_wrong_settings_are_refused_with_what_to_write(value):
    with pytest.raises(NodeStartError, match="write gossip:multicast"):
        parse_sources([f"gossip:{value}"])


def test_a_secret_needs_a_package(monkeypatch):
    monkeypatch.setenv("ERLMESH_GOSSIP_SECRET", "s")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(NodeStartError, match=r"erlmesh\[gossip\]"):
        check_sources(iter(parse_sources(["gossip:multicast"])))


# What is kept and said


def new_book():
    return GossipBook("me@h", random.Random(1), 0.0)


def test_a_name_is_new_once_and_is_forgotten():
    book = new_book()

    assert [book.heard("a@h", now) for now in (0.0, 5.0)] == [True, False]
    assert not book.heard("me@h", 5.0)
    assert book.names(5.0 + RETENTION) == ["a@h"]
    assert book.names(6.0 + RETENTION) == []
    assert book.heard("a@h", 100.0)


def test_each_name_is_kept_from_its_last_heartbeat():
    book = new_book()
    for name, now in (("a@h", 0.0), ("b@h", 10.0), ("a@h", 50.0)):
        book.heard(name, now)

    assert book.names(15.0 + RETENTION) == ["a@h"]


def test_the_number_of_names_is_bounded():
    book = new_book()
    for number in range(3 * MAX_NAMES):
        book.heard(f"n{number}@h", 0.0)

    assert len(book.names(0.0)) == MAX_NAMES
    assert book.names(0.0)[-1] == f"n{3 * MAX_NAMES - 1}@h"


def test_heartbeats_are_sent_at_random_intervals():
    book, times = new_book(), []
    now = 0.0
    for _ in range(100):
        assert book.heartbeat_due(now)
        assert not book.heartbeat_due(now)
        times.append(now)
        now = book._next_heartbeat

    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 0 < min(pauses) < 1
    assert 4 < max(pauses) <= INTERVAL


@pytest.mark.parametrize(
    ("happened", "report"),
    [
        (lambda book: None, "not even the own"),
        (lambda book: book.heard("me@h", 1.0), "only the own"),
        (lambda book: (book.heard("me@h", 1.0), book.malformed("it has another secret")), "another secret"),
        (lambda book: (book.malformed("it has another secret"), book.heard("a@h", 1.0)), None),
    ],
    ids=["nothing", "own", "other secret", "others"],
)
def test_the_log_says_once_why_nothing_is_heard(happened, report):
    book = new_book()
    happened(book)

    assert book.report_due(QUIET - 1) is None
    said = book.report_due(QUIET)
    assert said is None if report is None else report in said
    assert book.report_due(1e9) is None


# Sockets


@pytest.fixture
def port(monkeypatch):
    """A port that is free for UDP. The nodes of the test have an EPMD of their own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        monkeypatch.setenv("ERL_EPMD_PORT", str(probe.getsockname()[1]))
    with open_socket(GossipSettings(port=random.randrange(15000, 32000), interface="127.0.0.1"), "") as probe:
        return probe.getsockname()[1]


def own_source(port, *options):
    return ",".join([f"gossip:multicast,port={port},interface=127.0.0.1", *options])


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("secrets", [(None, None), ("s", "s"), ("s", "t"), ("s", None)], ids=str)
def test_two_nodes_find_each_other_if_they_have_the_same_secret(port, secrets, tmp_path, caplog):
    caplog.set_level(logging.INFO, "erlmesh.discovery")

    async def main():
        nodes, lookups = [], []
        for name, secret in zip("ab", secrets, strict=True):
            (tmp_path / name).write_text(secret or "")
            options = [f"secret-file={tmp_path / name}"] * (secret is not None)
            lookups.append(Lookup(parse_sources([own_source(port, *options)]), epmd_port=1))
            nodes.append(Node(f"gossip_{name}{port}@127.0.0.1", cookie="c"))
        a, b = nodes
        async with a, b, Discovery(a, lookups[0]) as first, Discovery(b, lookups[1]):
            if secrets[0] == secrets[1]:
                await until(lambda: a.nodes() == [b.name] and b.nodes() == [a.name])
            else:
                await until(lambda: first._gossips[0]._book._last_fault is not None)
                assert a.nodes() == []

    asyncio.run(main())


def test_a_node_that_is_not_allowed_is_not_connected(port, caplog):
    caplog.set_level(logging.INFO, "erlmesh.discovery")

    async def main():
        lookup = Lookup(parse_sources([own_source(port)]), epmd_port=1)
        async with (
            Node(f"gossip_a{port}@127.0.0.1", cookie="c", allow=["other@127.0.0.1"]) as node,
            Discovery(node, lookup) as discovery,
        ):
            discovery._gossips[0].received(HEARTBEAT)
            for _ in range(100):
                discovery._gossips[0].received(b"noise")
            await discovery._run_lookup()
            assert discovery.found == []

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records] == [
        "gossip: a@127.0.0.1 is not on the allow-list of this node"
    ]


@pytest.mark.parametrize(("target", "advice"), [("multicast", "interface="), ("broadcast", "gossip:10.0.0.255")])
def test_the_log_says_what_to_do_without_a_route(target, advice, caplog):
    gossip = Gossip(parse_gossip(target, {}), "me@h", rng=random.Random(1), now=0.0, found=print)

    for _ in range(3):
        gossip.failed(OSError("Network is unreachable"))

    assert [advice in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(("secret", "limit"), [(None, MAX_OPEN_NODES), ("s", MAX_SECRET_NODES)])
def test_what_anybody_sends_fills_no_memory_and_wakes_up_the_search(port, secret, limit, monkeypatch, tmp_path):
    if secret is not None:
        monkeypatch.setenv("ERLMESH_GOSSIP_SECRET", secret)

    async def main():
        lookup = Lookup(parse_sources([own_source(port)]), epmd_port=1)
        async with (
            Node(f"gossip_a{port}@127.0.0.1", cookie="c", dial_limit=1) as node,
            Discovery(node, lookup) as discovery,
        ):
            (gossip,) = discovery._gossips
            for number in range(limit + 10):
                datagram = encode_heartbeat(f"n{number}@127.0.0.1")
                gossip.received(datagram if secret is None else gossip._cipher.encrypt(datagram))
            assert discovery._wakeup.is_set()
            assert len(discovery.found) == limit
            await discovery._run_lookup()
            assert len(discovery.found) == limit

    asyncio.run(main())


def test_a_socket_that_cannot_be_opened_is_tried_again_and_logged_once(port, caplog, monkeypatch):
    monkeypatch.setattr("erlmesh.discovery.gossip.RETRY", 0.01)
    attempts = []

    def fails(*_):
        attempts.append(True)
        if len(attempts) < 4:
            raise OSError("no such device")
        return open_socket(GossipSettings(port=port, interface="127.0.0.1"), "")

    monkeypatch.setattr("erlmesh.discovery.gossip.open_socket", fails)

    async def main():
        lookup = Lookup(parse_sources([own_source(port)]), epmd_port=1)
        async with Node(f"gossip_a{port}@127.0.0.1", cookie="c") as node, Discovery(node, lookup) as discovery:
            await until(lambda: discovery._gossips[0]._book._own_returned)

    asyncio.run(main())
    assert [record.getMessage().partition(";")[0] for record in caplog.records if "gossip" in record.getMessage()] == [
        f"gossip 233.252.1.32:{port}: no such device"
    ]
