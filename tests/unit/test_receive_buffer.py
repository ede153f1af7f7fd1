"""Data that waits for a blocked event loop: its order, its limits and its memory."""

import random

import pytest

from erlmesh import native
from erlmesh.proto import receive_buffer
from erlmesh.proto.receive_buffer import ReceiveBuffer

ReceiveBudget = receive_buffer.ReceiveBudget


@pytest.fixture(
    autouse=True,
    params=[
        "pure",
        pytest.param("native", marks=pytest.mark.skipif(native.module is None, reason=native.description)),
    ],
)
def each_budget(request, monkeypatch):
    """Run each test with the budget of each build."""
    if request.param == "native":
        monkeypatch.setitem(globals(), "ReceiveBudget", receive_buffer.make_receive_budget)


def append(buffer, data):
    buffer.append(data, buffer.reserve(len(data)))


def take_all(buffer, size):
    return list(iter(lambda: buffer.take(size), b""))


@pytest.mark.parametrize("seed", range(20))
def test_the_bytes_keep_their_order_whatever_the_sizes(seed):
    rng = random.Random(seed)
    budget = ReceiveBudget()
    buffer = ReceiveBuffer(budget)
    put, taken = bytearray(), bytearray()
    for _ in range(300):
        if rng.random() < 0.6:
            data = rng.randbytes(rng.choice([0, 1, 4, 100, 16_383, 16_384, 70_000]))
            append(buffer, data)
            put += data
        else:
            size = rng.choice([1, 1000, 50_000])
            data = buffer.take(size)
            assert len(data) <= size
            assert bool(data) == (len(put) > len(taken))
            taken += data
        assert buffer.size == budget.used == len(put) - len(taken)
    taken += b"".join(take_all(buffer, 4096))

    assert taken == put
    assert budget.used == 0


def test_a_connection_gets_no_more_than_its_limit():
    buffer = ReceiveBuffer(ReceiveBudget(limit=10, total_limit=100))
    append(buffer, b"1234567")

    assert buffer.reserve(1000) == 3
    buffer.append(b"8", 3)
    assert buffer.reserve(1000) == 2
    buffer.append(b"90", 2)
    assert buffer.reserve(1000) == 0

    assert buffer.take(4) == b"1234"
    assert buffer.reserve(1000) == 4


def test_all_connections_together_get_no_more_than_the_total_limit():
    budget = ReceiveBudget(limit=100, total_limit=150)
    first, second = ReceiveBuffer(budget), ReceiveBuffer(budget)
    append(first, bytes(100))

    assert second.reserve(1000) == 50
    second.append(b"", 50)
    assert budget.used == 100

    first.clear()
    assert (first.size, budget.used) == (0, 0)
    assert first.take(10) == b""
    assert second.reserve(1000) == 100


def test_many_short_pieces_are_joined():
    buffer = ReceiveBuffer(ReceiveBudget())
    for _ in range(100_000):
        append(buffer, b"tick")

    pieces = take_all(buffer, 1 << 20)

    assert len(pieces) <= 8
    assert b"".join(pieces) == b"tick" * 100_000
