"""The protocol of EPMD in both roles, against captures of a real epmd."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh.errors import RemoteProtocolError
from erlmesh.proto import epmd

PORT = 4302
CAPTURED = json.loads((Path(__file__).parent.parent / "vectors" / "otp25.json").read_text())["epmd"]
BY_NOTE = {entry["note"]: entry for entry in CAPTURED}
UNIX_TIME = 0x6B02B28F


class FakeEpmdHost:
    """An EPMD and its connections, without sockets."""

    def __init__(self):
        self.registry = epmd.EpmdRegistry(PORT)

    def ask(self, request, unix_time=UNIX_TIME, pieces=None):
        client = epmd.ServerConnection(self.registry, 0.0)
        answer = b"".join(client.receive_data(piece, unix_time) for piece in pieces or [request])
        return answer, client

    def replay(self, note, unix_time=UNIX_TIME):
        entry = BY_NOTE[note]
        answer, client = self.ask(bytes.fromhex(entry["req"]), unix_time)
        if not note.startswith("DUMP"):  # it contains the file descriptors of the real epmd
            assert answer.hex() == entry["rsp"], note
        assert client.should_close is entry["closed_by_epmd"], note
        return client


def test_replays_the_captured_session_of_epmd():
    host = FakeEpmdHost()
    host.replay("NAMES empty")
    alpha = host.replay("ALIVE2 alpha v6")
    host.replay("ALIVE2 beta hidden hi6 lo5 extra xyz")
    host.ask(bytes.fromhex(BY_NOTE["ALIVE2 old v5 (16-bit creation answer)"]["req"]))
    for note in (
        "ALIVE2 duplicate name",
        "PORT_PLEASE2 alpha",
        "PORT_PLEASE2 beta",
        "PORT_PLEASE2 unknown",
        "NAMES",
        "DUMP",
    ):
        host.replay(note)
    host.registry.client_disconnected(alpha)
    host.replay("PORT_PLEASE2 alpha after close (auto-unregistered)")
    for attempt in range(3):
        alpha = host.replay(f"re-ALIVE2 alpha #{attempt}", UNIX_TIME + 1000)
        host.registry.client_disconnected(alpha)
    for attempt in range(2):
        host.registry.client_disconnected(host.replay(f"ALIVE2 v5 old2 #{attempt}"))
    cyrillic = host.replay("ALIVE2 utf8 name", 0x6B02B292)
    host.replay("PORT_PLEASE2 utf8")
    host.replay("NAMES utf8")
    host.registry.client_disconnected(cyrillic)
    for note in (
        "ALIVE2 empty name",
        "unknown request Q",
        "length 0",
        "STOP_REQ (not allowed without -relaxed_command_check)",
        "KILL while names registered",
        "NAMES still",
        "alpha again",
    ):
        host.replay(note)


@pytest.mark.parametrize("note", ["ALIVE2 256 byte name", "ALIVE2 1021 byte name"])
def test_a_name_that_is_too_long_is_refused(note):
    answer, _ = FakeEpmdHost().ask(bytes.fromhex(BY_NOTE[note]["req"]))

    assert epmd.decode_register_response(answer) == epmd.NameTaken()


def test_a_registered_node_is_found():
    host = FakeEpmdHost()
    answer, client = host.ask(epmd.encode_register("socrates", 9100, hidden=True))

    assert epmd.decode_register_response(answer) == epmd.Registered(UNIX_TIME)
    assert not client.should_close
    where, _ = host.ask(epmd.encode_lookup("socrates"))
    assert epmd.decode_lookup_response(where) == epmd.PortInfo(9100, hidden=True, highest_version=6, lowest_version=5)
    names, _ = host.ask(epmd.encode_names())
    assert epmd.decode_names_response(names) == {"socrates": 9100}


def test_any_split_of_a_request_gives_the_same_response():
    request = epmd.encode_register("socrates", 9100)
    whole, _ = FakeEpmdHost().ask(request)

    bytewise, _ = FakeEpmdHost().ask(b"", pieces=[request[i : i + 1] for i in range(len(request))])

    assert bytewise == whole


def test_a_partial_response_is_not_decoded():
    answer, _ = FakeEpmdHost().ask(epmd.encode_register("socrates", 9100))

    assert all(epmd.decode_register_response(answer[:size]) is None for size in range(len(answer)))


def test_data_after_a_registration_is_ignored():
    host = FakeEpmdHost()
    _, client = host.ask(epmd.encode_register("socrates", 9100))

    assert client.receive_data(epmd.encode_names(), UNIX_TIME) == b""
    assert not client.should_close


def test_only_an_incomplete_request_has_a_deadline():
    client = epmd.ServerConnection(epmd.EpmdRegistry(PORT), now=100.0)

    client.receive_data(b"\0", UNIX_TIME)

    assert client.next_deadline() == 100.0 + epmd.REQUEST_TIMEOUT
    client.receive_data(b"\1n", UNIX_TIME)
    assert client.next_deadline() is None


def test_every_incarnation_of_a_name_gets_another_creation():
    host = FakeEpmdHost()
    creations = set()
    for _ in range(5):
        answer, client = host.ask(epmd.encode_register("socrates", 9100))
        registered = epmd.decode_register_response(answer)
        assert isinstance(registered, epmd.Registered)
        creations.add(registered.creation)
        host.registry.client_disconnected(client)

    assert len(creations) == 5


@pytest.mark.parametrize("request_", ["ALIVE2 alpha v6", "DUMP", "KILL with no names"])
def test_other_hosts_may_not_register_or_kill(request_):
    host = FakeEpmdHost()
    client = epmd.ServerConnection(host.registry, 0.0)
    client.is_local = False

    assert client.receive_data(bytes.fromhex(BY_NOTE[request_]["req"]), UNIX_TIME) == b""
    assert client.should_close
    assert host.registry.names() == {}


def test_other_hosts_may_look_up_nodes():
    host = FakeEpmdHost()
    host.ask(epmd.encode_register("socrates", 9100))
    for request in (epmd.encode_lookup("socrates"), epmd.encode_names()):
        client = epmd.ServerConnection(host.registry, 0.0)
        client.is_local = False

        assert b"socrates" in client.receive_data(request, UNIX_TIME)


def test_a_name_with_a_newline_is_refused():
    host = FakeEpmdHost()

    assert host.ask(epmd.encode_register("a at port 1\nname b", 9100))[0] == b""


def test_the_number_of_stored_creations_is_limited():
    registry = epmd.EpmdRegistry(PORT, max_creations=3)
    host = FakeEpmdHost()
    host.registry = registry

    for number in range(20):
        _, client = host.ask(epmd.encode_register(f"n{number}", 9100))
        registry.client_disconnected(client)

    assert len(registry._creations) == 3


@pytest.mark.parametrize(
    "decode", [epmd.decode_register_response, epmd.decode_lookup_response, epmd.decode_names_response]
)
@given(data=st.binary(max_size=60))
def test_any_response_is_decoded_or_refused(decode, data):
    with contextlib.suppress(RemoteProtocolError):
        decode(data)


@given(requests=st.lists(st.binary(max_size=40), max_size=5))
def test_any_request_leaves_the_registry_consistent(requests):
    host = FakeEpmdHost()
    for request in requests:
        host.ask(request)
        host.ask(len(request).to_bytes(2, "big") + request)

    host.registry.handle_names()
    host.registry.handle_dump()
    host.registry.names()


def test_only_a_complete_registration_of_a_registered_name_waits():
    host = FakeEpmdHost()
    request = epmd.encode_register("socrates", 9100)
    client = epmd.ServerConnection(host.registry, 0.0)
    assert not client.registers_taken_name(request)
    host.ask(request)

    assert client.registers_taken_name(request)
    assert not client.registers_taken_name(epmd.encode_register("plato", 9100))
    assert not client.registers_taken_name(epmd.encode_lookup("socrates"))
    assert not client.registers_taken_name(request[:-1])
    client.receive_data(request[:10], UNIX_TIME)
    assert client.registers_taken_name(request[10:])


def registered(registry, name, client):
    request = epmd.encode_register(name, 9100)[3:]
    return isinstance(epmd.decode_register_response(registry.handle_alive2(request, client, 5)), epmd.Registered)


def test_the_number_of_nodes_is_limited_but_known_names_return():
    registry = epmd.EpmdRegistry(PORT, max_nodes=3, own_name="own")
    assert registered(registry, "plato", "first")
    registry.client_disconnected("first")

    assert [registered(registry, f"stranger{number}", number) for number in range(5)] == [True] * 3 + [False] * 2
    assert registry.refused == 2
    assert registered(registry, "own", "own")
    assert registered(registry, "plato", "second")
    assert not registered(registry, "stranger5", 5)
    assert registry.refused == 3

    for client in (0, 1, "second"):
        registry.client_disconnected(client)
    assert registered(registry, "stranger5", 5)


def test_names_that_return_have_a_limit_too():
    registry = epmd.EpmdRegistry(PORT, max_nodes=3)
    names = [f"n{number}" for number in range(200)]
    for name in names:
        assert registered(registry, name, name)
        registry.client_disconnected(name)

    assert sum(registered(registry, name, name) for name in names) == 3 + epmd.RETURNING_NODES
