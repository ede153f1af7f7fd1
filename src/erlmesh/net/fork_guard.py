"""Keeps the sockets of nodes out of forked children.

A child of ``os.fork`` has copies of all descriptors. While it lives, the kernel keeps the connections of its parent
open, and EPMD keeps the parent's name, also after the parent was killed. So each socket of a node is given to
:func:`close_in_children` when it is made. A child replaces the descriptor with the null device: the number stays in
use, so a later ``close`` in the child cannot hit another file.

``os.register_at_fork`` covers each fork that Python makes (``os.fork``, ``multiprocessing``). Programs that are started
(``subprocess``) never inherit these descriptors, because Python opens them with ``O_CLOEXEC``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from typing import Final

__all__ = ["close_in_children"]

_sockets: Final[weakref.WeakSet[socket.socket]] = weakref.WeakSet()


def close_in_children(sock: socket.socket) -> socket.socket:
    """Return ``sock``, whose descriptor every forked child closes. A socket that is closed earlier is no problem."""
    _sockets.add(sock)
    return sock


def _close_all() -> None:
    descriptors = [fd for sock in list(_sockets) if (fd := sock.fileno()) >= 0]
    if not descriptors:
        return
    try:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # no free descriptor, or no /dev: then the numbers become free
        for fd in descriptors:
            with contextlib.suppress(OSError):
                os.close(fd)
        return
    for fd in descriptors:
        with contextlib.suppress(OSError):
            os.dup2(null, fd, inheritable=False)
    os.close(null)


os.register_at_fork(after_in_child=_close_all)
