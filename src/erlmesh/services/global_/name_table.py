"""The table of global names of one node, and what two tables mean to each other when their nodes meet.

(``global_names`` and ``exchange_names`` in OTP's global.erl.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from erlmesh.services.global_.protocol import Atoms, Conflict, Demonitor, Effect, Monitor
from erlmesh.terms import Atom, Pid, Term, exact_key

__all__ = ["NameTable", "compare_tables", "conflict_operations"]


@dataclass(frozen=True, slots=True)
class _Entry:
    name: Term
    pid: Pid
    method: Term


class NameTable:
    """Pure: every change returns the monitors it needs or no longer needs."""

    def __init__(self) -> None:
        self._entries: dict[Any, _Entry] = {}
        self._names_by_pid: dict[Pid, dict[Any, None]] = {}
        self._external: dict[Any, tuple[Term, Pid, Atom]] = {}

    def whereis(self, name: Term) -> Pid | None:
        entry = self._entries.get(exact_key(name))
        return entry.pid if entry else None

    def names(self) -> list[Term]:
        return [entry.name for entry in self._entries.values()]

    def names_of(self, pid: Pid) -> list[Term]:
        return [self._entries[key].name for key in self._names_by_pid.get(pid, ())]

    def entries(self) -> list[tuple[Term, Pid, Term]]:
        """``[{Name, Pid, Method}]``, as ``exchange`` carries it."""
        return [(entry.name, entry.pid, entry.method) for entry in self._entries.values()]

    def external(self) -> list[tuple[Term, Pid, Atom]]:
        """``[{Name, Pid, RegNode}]``: names that a node registered for a process of a C node."""
        return list(self._external.values())

    def insert(self, name: Term, pid: Pid, method: Term, external: Atom | None = None) -> list[Effect]:
        """``name`` is ``pid`` from now on, whatever it was before."""
        effects = self.delete(name)
        key = exact_key(name)
        self._entries[key] = _Entry(name, pid, method)
        self._names_by_pid.setdefault(pid, {})[key] = None
        if external is not None:
            self._external[key] = (name, pid, external)
        # The new monitor first: if it is the same process, it is never unwatched in between.
        return [Monitor(pid), *effects]

    def delete(self, name: Term) -> list[Effect]:
        key = exact_key(name)
        entry = self._entries.pop(key, None)
        if entry is None:
            return []
        self._external.pop(key, None)
        names = self._names_by_pid[entry.pid]
        del names[key]
        if not names:
            del self._names_by_pid[entry.pid]
        return [Demonitor(entry.pid)]

    def handle_down(self, pid: Pid) -> list[Effect]:
        """``pid`` died: its names are free."""
        effects: list[Effect] = []
        for name in self.names_of(pid):
            effects += self.delete(name)
        return effects

    def remove_node(self, node: Atom) -> list[Effect]:
        """``node`` is no longer of our partition: the names of its processes are free."""
        effects: list[Effect] = []
        for pid in [pid for pid in self._names_by_pid if pid.node is node]:
            effects += self.handle_down(pid)
        return effects

    def apply_operations(self, operations: Iterable[Term], external: Term, *, lock_held: bool) -> list[Effect]:
        """Carry out ``{insert, {Name, Pid, Method}}`` and ``{delete, Name}``: inserts first, then deletes.

        ``allowed`` is whether the lock under which the operations were decided still stands; without it the names
        are cleared, as OTP does, rather than left in a state that other nodes do not share.
        """
        registrars = _registering_nodes(external)
        effects: list[Effect] = []
        operations = list(operations)
        for operation in operations:
            match operation:
                case (Atoms.INSERT, (name, Pid() as pid, method)):
                    effects += self.insert(name, pid, method, registrars.get((exact_key(name), pid)))
                    if not lock_held:
                        effects += self.delete(name)
        for operation in operations:
            match operation:
                case (Atoms.DELETE, name):
                    effects += self.delete(name)
        return effects


def _registering_nodes(external: Term) -> dict[tuple[Any, Pid], Atom]:
    found: dict[tuple[Any, Pid], Atom] = {}
    for item in external if isinstance(external, list) else ():
        match item:
            case (name, Pid() as pid, Atom() as node):
                found[exact_key(name), pid] = node
    return found


def compare_tables(
    table: NameTable, peer_entries: Iterable[Term], *, decide: bool
) -> tuple[list[Term], list[Conflict]]:
    """What the peer's names mean here: operations for our table, and conflicts, which are ours only if we ``decide``.

    The node with the smaller name decides, so that every conflict of two partitions is decided once.
    """
    ours = {exact_key(name): (pid, method) for name, pid, method in table.entries()}
    operations: list[Term] = []
    conflicts: list[Conflict] = []
    for item in peer_entries:
        match item:
            case (name, Pid() as pid, method):
                mine = ours.get(exact_key(name))
                if mine is None:
                    operations.append((Atoms.INSERT, (name, pid, method)))
                elif mine[0] != pid and decide:
                    conflicts.append(Conflict(name, pid, method, *mine))
    return operations, conflicts


def conflict_operations(conflict: Conflict, answer: Term) -> tuple[Term | None, Term | None]:
    """What the answer of a conflict's method means: (operation for our table, operation for the peer's).

    ``{badrpc, _}`` (the method could not be asked) favours the peer; anything but one of the two pids ends the name.
    """
    match answer:
        case Pid() if answer == conflict.local_pid:
            return None, (Atoms.INSERT, (conflict.name, conflict.local_pid, conflict.local_method))
        case Pid() if answer == conflict.peer_pid:
            return (Atoms.INSERT, (conflict.name, conflict.peer_pid, conflict.peer_method)), None
        case (Atoms.BADRPC, _):
            return (Atoms.INSERT, (conflict.name, conflict.peer_pid, conflict.peer_method)), None
    return (Atoms.DELETE, conflict.name), (Atoms.DELETE, conflict.name)
