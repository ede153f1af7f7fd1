"""The queue of bytes to write keeps order and size, copies no large piece, and lets one thread append while another
takes.
"""

import threading
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from erlmesh.proto.control import SendName
from erlmesh.proto.flags import OFFERED
from erlmesh.proto.frame_writer import FrameWriter
from erlmesh.proto.send_queue import LARGE_PIECE, MAX_BUFFERS, MAX_JOINED, SendQueue, join_short_pieces
from erlmesh.terms import Atom, Pid

LARGE = bytes(LARGE_PIECE)


def written(queue, size):
    """Write ``size`` bytes, or less if the queue has less at a time. Return them."""
    data = b"".join(queue.buffers())[:size]
    queue.advance(len(data))
    return data


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=9), st.just(LARGE)), max_size=20), st.data())
def test_any_writes_give_all_bytes_in_order(pieces, data):
    queue, out = SendQueue(), b""
    for piece in pieces:
        queue.append(piece)
        if data.draw(st.booleans()):
            out += written(queue, data.draw(st.sampled_from([0, 1, 7, LARGE_PIECE, 1 << 20])))
    assert queue.queued == sum(map(len, pieces)) - len(out)
    while queue.queued:
        out += written(queue, 1 << 20)

    assert out == b"".join(pieces)
    assert queue.buffers() == []


def test_a_large_piece_is_passed_by_reference():
    queue = SendQueue()
    queue.extend((b"head", LARGE, b"tail"), 8 + len(LARGE))

    head, large, tail = queue.buffers()

    assert (head, tail) == (b"head", b"tail")
    assert large is LARGE


def test_the_rest_of_a_large_piece_is_not_copied():
    queue = SendQueue()
    queue.append(LARGE)
    queue.buffers()

    queue.advance(100)

    (rest,) = queue.buffers()
    assert rest.obj is LARGE
    assert len(rest) == queue.queued == len(LARGE) - 100


def test_short_pieces_are_joined():
    queue = SendQueue()
    for _ in range(1000):
        queue.append(b"12345")

    assert queue.buffers() == [b"12345" * 1000]


def test_a_write_has_a_bounded_number_of_buffers_and_joined_bytes():
    queue = SendQueue()
    for _ in range(100):
        queue.append(b"short")
        queue.append(LARGE)
    assert len(queue.buffers()) <= MAX_BUFFERS

    queue.clear()
    for _ in range(3 * MAX_JOINED // 1000):
        queue.append(bytes(1000))
    assert sum(map(len, queue.buffers())) < MAX_JOINED + 1000


def test_everything_can_be_taken_or_dropped():
    queue = SendQueue()
    queue.append(b"abcd")
    queue.append(b"efgh")
    assert written(queue, 3) == b"abc"
    queue.append(b"ijkl")

    assert queue.take() == b"defghijkl"
    assert queue.queued == 0
    queue.append(b"m")
    queue.clear()
    assert (queue.queued, queue.take(), queue.buffers()) == (0, b"", [])


def test_one_thread_appends_while_another_takes():
    queue, out, done = SendQueue(), bytearray(), threading.Event()

    def take():
        while not done.is_set() or queue.queued:
            out.extend(written(queue, 1000))

    taking = threading.Thread(target=take)
    taking.start()
    frames = [b"%08d" % number for number in range(20_000)]
    for at in range(0, len(frames), 2):
        queue.append(frames[at])
        queue.extend((frames[at + 1][:3], frames[at + 1][3:]), 8)
    done.set()
    taking.join()

    assert out == b"".join(frames)


@given(st.lists(st.one_of(st.binary(max_size=9), st.just(LARGE)), max_size=20))
def test_short_neighbours_become_one_piece_and_large_pieces_stay(pieces):
    joined = join_short_pieces(pieces)

    assert b"".join(joined) == b"".join(pieces)
    assert [piece for piece in joined if piece is LARGE] == [piece for piece in pieces if piece is LARGE]
    assert all(len(a) + len(b) >= LARGE_PIECE for a, b in pairwise(joined))
    assert b"" not in joined


def test_a_long_term_of_many_short_pieces_waits_in_few():
    queue = SendQueue()
    writer = FrameWriter((Atom("a@h"), Atom("b@h")), OFFERED, queue)
    writer.write(SendName(Pid(Atom("a@h"), 1, 0, 1), Atom("x"), list(range(-20_000, 0))))

    assert queue.queued > 80_000
    assert len(queue._pieces) < 5
