"""The first number of a printed pid: 0 for the node that is "here", otherwise a small number for each node name.

It is display state of the whole Python process, as it is of a whole BEAM: two nodes in one process print alike.
All lives of a node name share their number, so a stale pid prints like its successor, as it does in Erlang.
"""

from __future__ import annotations

import threading

from erlmesh.terms.atoms import Atom

__all__ = ["claim_here", "node_of_prefix", "prefix", "release_here"]

_lock = threading.Lock()
_here: Atom | None = None
_numbers: dict[Atom, int] = {}
_nodes: list[Atom] = []  # _nodes[n - 1] has the number n


def claim_here(node: Atom) -> bool:
    """Make ``node`` the one that prints as 0, if no other node is. True if it is now the one."""
    global _here  # noqa: PLW0603 - what is here is one for the process
    with _lock:
        if _here is None:
            _here = node
        return _here is node


def release_here(node: Atom) -> None:
    """End the claim of ``node``. Nothing happens if it has none."""
    global _here  # noqa: PLW0603 - what is here is one for the process
    with _lock:
        if _here is node:
            _here = None


def prefix(node: Atom) -> int:
    """The number ``node`` prints as. A name gets its number, from 1 upwards, when it is first asked for."""
    if node is _here:
        return 0
    number = _numbers.get(node)
    if number is None:
        with _lock:
            number = _numbers.get(node)
            if number is None:
                _nodes.append(node)
                number = _numbers[node] = len(_nodes)
    return number


def node_of_prefix(number: int) -> Atom | None:
    """The node name that prints as ``number``; None if that number was never printed (or is 0 and no node is here)."""
    if number == 0:
        return _here
    if 0 < number <= len(_nodes):
        return _nodes[number - 1]
    return None
