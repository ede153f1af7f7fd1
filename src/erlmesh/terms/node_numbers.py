"""The first number of a printed pid: 0 for the local node, and a small positive number for every other node name.

This is display state of the whole Python process, as it is of a whole BEAM. If several nodes run in one process, the
oldest is the local one, so that each pid prints in one way only. When it stops, the next oldest becomes the local one.

All incarnations of a node name share one number. So a stale pid prints like the pid of the new incarnation, as in
Erlang. Other nodes can make this one print any names, so only the last MAX_NUMBERS names have a number. A name that has
lost its number gets a new one when it is printed again. No number is used twice.
"""

from __future__ import annotations

import threading
from typing import Final

from erlmesh.terms.atoms import Atom

__all__ = ["MAX_NUMBERS", "claim_local", "node_by_number", "node_number", "only_local_node", "release_local"]

MAX_NUMBERS: Final = 4096
"""Names that have a number. They are more than a cluster has nodes."""

_lock = threading.Lock()
_local_node: Atom | None = None
_local_nodes: list[Atom] = []  # the running nodes of this Python process, oldest first
_numbers: dict[Atom, int] = {}  # oldest first
_nodes: dict[int, Atom] = {}
_last_number = 0


def claim_local(node: Atom) -> bool:
    """Record that ``node`` has started. It prints as 0 when no older node of this process runs.

    Returns True if it prints as 0 immediately.
    """
    global _local_node  # noqa: PLW0603 - display state of the whole process
    with _lock:
        if node not in _local_nodes:
            _local_nodes.append(node)
        _local_node = _local_nodes[0]
        return _local_node is node


def release_local(node: Atom) -> None:
    """Record that ``node`` has stopped. This has no effect for a node that was not claimed."""
    global _local_node  # noqa: PLW0603
    with _lock:
        if node in _local_nodes:
            _local_nodes.remove(node)
        _local_node = _local_nodes[0] if _local_nodes else None


def only_local_node() -> Atom | None:
    """Return the node that runs in this Python process; None if there are several or none."""
    nodes = _local_nodes  # other threads may change it meanwhile
    return nodes[0] if len(nodes) == 1 else None


def node_number(node: Atom) -> int:
    """Return the number that ``node`` prints as. A name gets the next free number, from 1 upwards, at its first use."""
    if node is _local_node:
        return 0
    number = _numbers.get(node)
    return _new_number(node) if number is None else number


def _new_number(node: Atom) -> int:
    global _last_number  # noqa: PLW0603
    with _lock:
        number = _numbers.get(node)  # another thread may have added it since the look-up without the lock
        if number is None:
            if len(_numbers) >= MAX_NUMBERS:
                oldest = next(iter(_numbers))
                del _nodes[_numbers.pop(oldest)]
            _last_number += 1
            number = _numbers[node] = _last_number
            _nodes[number] = node
        return number


def node_by_number(number: int) -> Atom | None:
    """Return the node name that prints as ``number``.

    Returns None if no name has this number, and for 0 if no local node runs.
    """
    return _local_node if number == 0 else _nodes.get(number)
