"""EPMD in both roles: the embedded server, the relay, and the responses that a client decodes.

The first byte of the input chooses the role. The rest is what the other side sends.
"""

import contextlib

from erlmesh.errors import RemoteProtocolError
from erlmesh.proto import epmd
from fuzz.targets.cutting import pieces, single_bytes

RESPONSES = [epmd.decode_register_response, epmd.decode_lookup_response, epmd.decode_names_response]


def serve(parts: list[bytes], is_local: bool) -> tuple[bytes, dict[str, int], bool]:
    """Return the answers to one client, the registered names, and whether the connection must be closed."""
    registry = epmd.EpmdRegistry(4369)
    connection = epmd.ServerConnection(registry, 0.0)
    connection.is_local = is_local
    answers = b""
    for part in parts:
        answers += connection.receive_data(part, 1)
        if connection.should_close:
            break
    return answers, registry.names(), connection.should_close


def check_server(data: bytes, is_local: bool) -> None:
    """Assert that the server's answers do not depend on how a request is cut, and that other hosts register nothing."""
    expected = serve([data], is_local)
    assert is_local or not expected[1]
    assert serve(pieces(data), is_local) == expected
    if len(data) < 200:
        assert serve(single_bytes(data), is_local) == expected


def check_relay(data: bytes) -> None:
    """Assert that the relay passes on only requests that it has made anew, and the same one for its own output."""
    try:
        remade = epmd.remake_request(data)
    except RemoteProtocolError:
        return
    if remade is not None:
        assert remade[2:3] in (b"n", b"z")
        assert epmd.remake_request(remade) == remade


def check_response(choice: int, data: bytes) -> None:
    """Assert that a client gets a value, None, or RemoteProtocolError."""
    with contextlib.suppress(RemoteProtocolError):
        RESPONSES[choice % len(RESPONSES)](data)


def run(data: bytes) -> None:
    """Check the role that the first byte chooses."""
    if not data:
        return
    choice, received = data[0], data[1:]
    if choice < 100:
        check_server(received, is_local=choice < 50)
    elif choice < 160:
        check_relay(received)
    else:
        check_response(choice, received)
