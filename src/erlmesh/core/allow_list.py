"""Which nodes may be met at all: OTP's ``net_kernel:allow/1``, with patterns.

An entry is a node (``plato@10.0.0.7``), a host (``10.0.0.7``: any node there), or a name before the ``@``
(``plato@``: on any host), as ``dist_util:is_allowed/2`` reads them. Beyond OTP, ``*`` and ``?`` stand for any
characters and any one, in either part: ``worker*@10.0.*``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from erlmesh.terms import Atom

__all__ = ["AllowList"]


class AllowList:
    """The list of one node. None allows everybody, as OTP does before the first call of ``allow``."""

    def __init__(self, entries: Iterable[Atom | str] | None = None) -> None:
        """Raises ``ValueError`` for an entry that can match no node, and for an empty list."""
        self._entries: list[str] = []
        self._patterns: list[re.Pattern[str]] = []
        if entries is not None:
            self.add(entries)
            if not self._entries:
                raise ValueError("an empty allow-list would keep everybody out: leave it away to allow all nodes")

    @property
    def entries(self) -> tuple[str, ...]:
        """What is allowed, in the order of adding; empty if everybody is."""
        return tuple(self._entries)

    def add(self, entries: Iterable[Atom | str]) -> None:
        """Allows these too; if everybody was allowed, only these from now on. Raises ``ValueError``."""
        if isinstance(entries, str | Atom):
            raise TypeError(f"an allow-list is a list of names, not one: [{str(entries)!r}]")
        new = [Atom(entry).name for entry in entries]
        patterns = [_compile_entry(entry) for entry in new]
        self._entries += new
        self._patterns += patterns

    def allows(self, name: str) -> bool:
        """Whether the node ``name`` may be met."""
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
