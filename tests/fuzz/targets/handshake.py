"""The handshake in both roles, with and without TLS: how the bytes are cut makes no difference.

The first byte of the input chooses role, framing and the node's answer. The rest is what the peer sends. Challenges are
constant, so that the corpus can contain complete handshakes. The cookie is ``fuzz``.
"""

from erlmesh.errors import ErlmeshError
from erlmesh.proto.handshake import HandshakeCompleted, LocalNode, Status, accept, initiate
from erlmesh.proto.handshake_driver import HandshakeDriver, HandshakeFailed
from fuzz.targets.cutting import pieces, single_bytes

CHALLENGE = 0x01020304
STATUSES = list(Status)


def make_driver(choice: int) -> HandshakeDriver:
    """Return the driver that the first byte of the input chooses."""
    local = LocalNode("here@h", 7, lambda _: "fuzz", lambda: CHALLENGE, set())
    if choice & 1:
        steps = initiate(local, "there@h", lambda: bool(choice & 2))
    else:
        status = STATUSES[(choice >> 2) % len(STATUSES)]
        make_name = None if choice & 32 else lambda host: (f"N@{host}", 5)
        steps = accept(local, lambda _name, _flags: status, make_dynamic_name=make_name)
    return HandshakeDriver(steps, now=0.0, tls=bool(choice & 128))


def outcome(choice: int, parts: list[bytes]) -> tuple[object, ...]:
    """Return everything that one handshake did: its event, what it sent, and what it left for the channel."""
    driver = make_driver(choice)
    sent, events = driver.data_to_send(), []
    for part in parts:
        events += driver.receive_data(part, 0.0)
        sent += driver.data_to_send()
    events += driver.receive_eof()
    sent += driver.data_to_send()
    assert len(events) == 1, events
    event = events[0]
    if isinstance(event, HandshakeFailed):
        assert isinstance(event.error, ErlmeshError)
        assert len(str(event.error)) < 2_000, "the text of the error grows with the input"
        return "failed", type(event.error), str(event.error), sent
    assert isinstance(event, HandshakeCompleted)
    return event.name, event.flags, event.peer_flags, event.creation, sent, driver.trailing_data


def run(data: bytes) -> None:
    """Run one handshake three times, with the same bytes in different pieces."""
    if not data:
        return
    choice, received = data[0], data[1:]
    expected = outcome(choice, [received])
    assert outcome(choice, pieces(received)) == expected
    if len(received) < 200:
        assert outcome(choice, single_bytes(received)) == expected
