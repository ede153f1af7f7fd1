"""The first number of a printed pid: 0 for the node that is "here", otherwise a small number for each node name.

It is display state of the whole Python process, as it is of a whole BEAM. Of several nodes in one process the oldest is
here, so that each pid prints in one way only; when it ends, the next oldest is.
All lives of a node name share their number, so a stale pid prints like its successor, as it does in Erlang.
"""

from __future__ import annotations

import threading

from erlmesh.terms.atoms import Atom

__all__ = ["claim_here", "node_of_prefix", "prefix", "release_here"]

_lock = threading.Lock()
_here: Atom | None = None
_claims: list[Atom] = []  # the nodes of this process, oldest first
_numbers: dict[Atom, int] = {}
_nodes: list[Atom] = []  # _nodes[n - 1] has the number n


def claim_here(node: Atom) -> bool:
    """``node`` has started: it prints as 0 once no older one of this process runs. True if that is so at once."""
    global _here  # noqa: PLW0603 - display state of the whole process
    with _lock:
        if node not in _claims:
            _claims.append(node)
        _here = _claims[0]
        return _here is node


def release_here(node: Atom) -> None:
    """End the claim of ``node``. Nothing happens if it has none."""
    global _here  # noqa: PLW0603
    with _lock:
        if node in _claims:
            _claims.remove(node)
        _here = _claims[0] if _claims else None


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
