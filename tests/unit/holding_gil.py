"""Waiting for data of a socket in one C function that holds the GIL, so that no other thread runs Python meanwhile."""

import ctypes
import select
import socket

__all__ = ["read_holding_gil"]

poll = ctypes.PyDLL(None).poll  # a function of a PyDLL does not release the GIL
TIMEOUT = 10_000
"""Milliseconds."""


class PollFd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


def read_holding_gil(connection, size):
    """Return what the socket receives, until it has ``size`` bytes or the connection ends."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
    polled = PollFd(connection.fileno(), select.POLLIN, 0)
    assert poll(ctypes.byref(polled), 1, TIMEOUT) == 1, "nothing has arrived"
    return connection.recv(size)
