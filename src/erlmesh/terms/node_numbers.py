"""The first number of a printed pid: 0 for the node that is "here", otherwise a small number for each node name.

It is display state of the whole Python process, as it is of a whole BEAM. Of several nodes in one process the oldest is
here, so that each pid prints in one way only; when it ends, the next oldest is.
All lives of a node name share their number, so a stale pid prints like its successor, as it does in Erlang.
"""

from __future__ import annotations

import threading

from erlmesh.terms.atoms import Atom

__all__ = ["claim_local", "node_by_number", "node_number", "release_local"]

_lock = threading.Lock()
_local_node: Atom | None = None
_local_nodes: list[Atom] = []  # the nodes of this process, oldest first
_numbers: dict[Atom, int] = {}
_nodes: list[Atom] = []  # _nodes[n - 1] has the number n


def claim_local(node: Atom) -> bool:
    """``node`` has started: it prints as 0 once no older one of this process runs. True if that is so at once."""
    global _local_node  # noqa: PLW0603 - display state of the whole process
    with _lock:
        if node not in _local_nodes:
            _local_nodes.append(node)
        _local_node = _local_nodes[0]
        return _local_node is node


def release_local(node: Atom) -> None:
    """End the claim of ``node``. Nothing happens if it has none."""
    global _local_node  # noqa: PLW0603
    with _lock:
        if node in _local_nodes:
            _local_nodes.remove(node)
        _local_node = _local_nodes[0] if _local_nodes else None


def node_number(node: Atom) -> int:
    """The number ``node`` prints as. A name gets its number, from 1 upwards, when it is first asked for."""
    if node is _local_node:
        return 0
    number = _numbers.get(node)
    if number is None:
        with _lock:
            number = _numbers.get(node)
            if number is None:
                _nodes.append(node)
                number = _numbers[node] = len(_nodes)
    return number


def node_by_number(number: int) -> Atom | None:
    """The node name that prints as ``number``; None if that number was never printed (or is 0 and no node is here)."""
    if number == 0:
        return _local_node
    if 0 < number <= len(_nodes):
        return _nodes[number - 1]
    return None
