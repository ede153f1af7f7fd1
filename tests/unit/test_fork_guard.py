"""Forked children have no sockets of the node."""

import os
import socket
import warnings
from pathlib import Path

import pytest

from erlmesh.net.fork_guard import close_in_children


@pytest.fixture
def forked():
    """Fork a child that waits until the test ends."""
    held = []

    def fork(in_child=lambda: None):
        ours, theirs = socket.socketpair()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: other threads run
            child = os.fork()
        if child == 0:
            try:
                ours.close()
                theirs.sendall(b"%d" % (in_child() or 0))
                theirs.recv(1)
            finally:
                os._exit(0)
        theirs.close()
        held.append((child, ours))
        return int(ours.recv(10))

    yield fork
    for child, ours in held:
        ours.close()
        os.waitpid(child, 0)


def test_a_connection_ends_with_the_parent_although_a_child_lives(forked):
    peer, mine = socket.socketpair()
    close_in_children(mine)
    forked()

    mine.close()

    peer.settimeout(10)
    assert peer.recv(1) == b""
    peer.close()


def test_a_child_keeps_the_number_of_the_descriptor(forked):
    """A later close of the socket object in the child must not hit a file that it has opened meanwhile."""
    peer, mine = socket.socketpair()
    close_in_children(mine)

    fd = mine.fileno()
    null = Path(os.devnull).stat().st_rdev
    assert forked(lambda: os.fstat(fd).st_rdev == null) == 1
    peer.close()
    mine.close()


def test_a_socket_that_was_closed_does_not_cost_the_child_another_file(forked):
    peer, mine = socket.socketpair()
    close_in_children(mine)
    fd = mine.fileno()
    mine.close()
    peer.close()
    with Path("/proc/self/exe").open("rb") as other:
        os.dup2(other.fileno(), fd)
        size = os.fstat(fd).st_size

        assert forked(lambda: os.fstat(fd).st_size == size) == 1
        os.close(fd)
