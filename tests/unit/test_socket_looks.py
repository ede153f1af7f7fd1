"""When a thread looks at the sockets of a loop, and when it serves them in place of the loop."""

from erlmesh.core.socket_looks import LOOK_INTERVAL, MAX_GAP, SocketLooks


class Sockets:
    """Looks of one loop after another, each LOOK_INTERVAL later than the one before."""

    def __init__(self):
        self.looks = SocketLooks()
        self.now = 1000.0

    def look(self, *, total=None, later=LOOK_INTERVAL, **with_data):
        self.now += later
        return self.looks.look(self.now, with_data, sum(with_data.values()) if total is None else total)


def test_a_socket_with_data_at_two_looks_is_served_if_the_loop_did_not_serve_it():
    sockets = Sockets()

    assert sockets.look(a=7) == []
    assert sockets.looks.is_looking
    assert sockets.look(a=7) == ["a"]
    assert sockets.looks.is_serving


def test_a_socket_that_the_loop_serves_is_left_to_it():
    sockets = Sockets()

    assert [sockets.look(a=progress) for progress in range(100)] == [[]] * 100
    assert not sockets.looks.is_serving


def test_data_that_arrived_after_the_last_look_is_not_late():
    sockets = Sockets()

    assert sockets.look(a=1) == []
    assert sockets.look(b=1) == []
    assert sockets.look(a=1) == []
    assert sockets.look(a=1, b=1) == ["a", "b"]


def test_all_sockets_are_served_at_once_until_the_loop_responds():
    sockets = Sockets()
    sockets.look(a=1)
    sockets.look(a=1)

    assert sockets.look(b=0, later=0.0) == ["b"]
    assert sockets.look(a=1, c=5, later=100.0) == ["a", "c"]
    assert not sockets.looks.is_looking  # the thread waits for data, it does not sleep

    sockets.looks.loop_responded()
    assert not sockets.looks.is_serving
    assert sockets.look(a=1) == []
    assert sockets.look(a=1) == ["a"]


def test_looking_goes_on_while_the_loop_serves_sockets_and_ends_then():
    sockets = Sockets()

    assert not sockets.looks.is_looking
    sockets.look(a=1)
    for total in range(2, 10):
        assert sockets.look(total=total) == []
        assert sockets.looks.is_looking
    sockets.look(total=9)
    assert not sockets.looks.is_looking


def test_a_stopped_process_is_not_a_blocked_loop():
    sockets = Sockets()
    sockets.look(a=1)

    assert sockets.look(a=1, later=MAX_GAP * 1.1) == []
    assert sockets.look(a=1) == ["a"]
