"""Which nodes may be connected to at all: ``net_kernel:allow/1`` of OTP, with patterns.

An entry is a node (``plato@10.0.0.7``), a host (``10.0.0.7``: any node there), or an alive name (``plato@``: on any
host), as in ``dist_util:is_allowed/2``. In addition to OTP, ``*`` matches any characters and ``?`` any single one, in
either part: ``worker*@10.0.*``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from erlmesh.terms import Atom

__all__ = ["AllowList"]


class AllowList:
    """The allow-list of one node. None allows all nodes, as OTP does before the first call of ``allow``."""

    def __init__(self, entries: Iterable[Atom | str] | None = None) -> None:
        """Raises ``ValueError`` for an entry that cannot match any node, and for an empty list."""
        self._entries: list[str] = []
        self._patterns: list[re.Pattern[str]] = []
        if entries is not None:
            self.add(entries)
            if not self._entries:
                raise ValueError("an empty allow-list would refuse all nodes: leave it out to allow all nodes")

    @property
    def entries(self) -> tuple[str, ...]:
        """The entries in the order of adding; empty if all nodes are allowed."""
        return tuple(self._entries)

    def add(self, entries: Iterable[Atom | str]) -> None:
        """Allow these nodes, too. If all nodes were allowed, allow only these from now on. Raises ``ValueError``."""
        if isinstance(entries, str | Atom):  # a str is iterable: each character would become an entry
            raise TypeError(f"an allow-list is a list of names, not one: [{str(entries)!r}]")
        new = [Atom(entry).name for entry in entries]
        patterns = [_compile_entry(entry) for entry in new]
        self._entries += new
        self._patterns += patterns

    def allows(self, name: str) -> bool:
        """Whether the node ``name`` may be connected to."""
        return not self._patterns or any(pattern.fullmatch(name) for pattern in self._patterns)


def _compile_entry(entry: str) -> re.Pattern[str]:
    alive, at, host = entry.rpartition("@")
    if not entry or "@" in alive or (at and not alive) or not entry.isprintable() or " " in entry:
        raise ValueError(
            f"{entry!r} allows no node: write a node (plato@10.0.0.7), a host (10.0.0.7) or a name on any host (plato@)"
        )
    return re.compile(f"{_glob_to_regex(alive)}@{_glob_to_regex(host)}")


def _glob_to_regex(glob: str) -> str:
    if not glob:
        return "[^@]+"
    return "".join({"*": "[^@]*", "?": "[^@]"}.get(character) or re.escape(character) for character in glob)
