"""The start of a frame keeps its bytes, and takes little memory however it arrives."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from erlmesh.proto.partial_frame import SHORT, PartialFrame


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=9), st.just(bytes(SHORT))), max_size=10))
def test_any_pieces_are_joined_in_order(pieces):
    partial = PartialFrame()
    for piece in pieces:
        partial.append(piece)
    assert partial.size == sum(map(len, pieces))

    assert partial.take() == b"".join(pieces)
    assert (partial.size, partial.take()) == (0, b"")


def test_a_frame_in_single_bytes_takes_little_more_memory_than_its_bytes():
    partial = PartialFrame()
    tracemalloc.start()
    try:
        for _ in range(100_000):
            partial.append(b"x")
        size, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert size < 200_000
