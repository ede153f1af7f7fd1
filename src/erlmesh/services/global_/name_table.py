"""The table of global names of one node, and the comparison of two tables when their nodes connect. No I/O.

Source: the ETS table ``global_names``, ``exchange_names`` and ``resolve_names`` in global.erl.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from erlmesh.records import record
from erlmesh.services.global_.protocol import Atoms, Conflict, Demonitor, Effect, Monitor
from erlmesh.terms import Atom, Pid, Term, exact_key

__all__ = ["NameTable", "compare_tables", "conflict_operations"]


@record(frozen=True)
class _Entry:
    """A registered name. ``method`` is the term of its resolve method."""

    name: Term
    pid: Pid
    method: Term


class NameTable:
    """Each change returns the monitors that it needs or no longer needs."""

    def __init__(self) -> None:
        # By exact_key of the name.
        self._entries: dict[Any, _Entry] = {}
        # The names of each process, to remove them when it terminates.
        self._names_by_pid: dict[Pid, dict[Any, None]] = {}
        # Names of C nodes' processes, with the node that registered them (global:register_name_external).
        self._external: dict[Any, tuple[Term, Pid, Atom]] = {}
        self.on_change: Callable[[], object] | None = None
        """Called after each change, also one that changes nothing. None if nobody looks."""

    def whereis(self, name: Term) -> Pid | None:
        """The process that has ``name``, or None."""
        entry = self._entries.get(exact_key(name))
        return entry.pid if entry else None

    def names(self) -> list[Term]:
        """All registered names."""
        return [entry.name for entry in self._entries.values()]

    def names_of(self, pid: Pid) -> list[Term]:
        """All names of one process."""
        return [self._entries[key].name for key in self._names_by_pid.get(pid, ())]

    def entries(self) -> list[tuple[Term, Pid, Term]]:
        """``[{Name, Pid, Method}]``, the form of ``exchange``."""
        return [(entry.name, entry.pid, entry.method) for entry in self._entries.values()]

    def external(self) -> list[tuple[Term, Pid, Atom]]:
        """``[{Name, Pid, RegNode}]``: names that a node registered for processes of a C node."""
        return list(self._external.values())

    def insert(self, name: Term, pid: Pid, method: Term, external: Atom | None = None) -> list[Effect]:
        """Register ``name`` for ``pid``. It replaces an earlier entry."""
        effects = self.delete(name)
        key = exact_key(name)
        self._entries[key] = _Entry(name, pid, method)
        self._names_by_pid.setdefault(pid, {})[key] = None
        if external is not None:
            self._external[key] = (name, pid, external)
        if self.on_change is not None:
            self.on_change()
        # The new monitor comes first. If it is the same process, it stays monitored in between.
        return [Monitor(pid), *effects]

    def delete(self, name: Term) -> list[Effect]:
        """Remove ``name``. No effect if it is not registered."""
        key = exact_key(name)
        entry = self._entries.pop(key, None)
        if entry is None:
            return []
        self._external.pop(key, None)
        names = self._names_by_pid[entry.pid]
        del names[key]
        if not names:
            del self._names_by_pid[entry.pid]
        if self.on_change is not None:
            self.on_change()
        return [Demonitor(entry.pid)]

    def handle_down(self, pid: Pid) -> list[Effect]:
        """``pid`` has terminated, or its node is lost: remove its names."""
        effects: list[Effect] = []
        for name in self.names_of(pid):
            effects += self.delete(name)
        return effects

    def remove_node(self, node: Atom) -> list[Effect]:
        """``node`` is no longer in our partition: remove the names of its processes."""
        effects: list[Effect] = []
        for pid in [pid for pid in self._names_by_pid if pid.node is node]:
            effects += self.handle_down(pid)
        return effects

    def apply_operations(self, operations: Iterable[Term], external: Term, *, lock_held: bool) -> list[Effect]:
        """Apply ``{insert, {Name, Pid, Method}}`` and ``{delete, Name}``: all inserts first, then all deletes.

        ``lock_held`` tells whether the lock still stands under which the operations were decided. If not, the names
        are removed, as OTP does. Otherwise this node could have names that other nodes do not have.
        """
        registering_nodes = _registering_nodes(external)
        effects: list[Effect] = []
        operations = list(operations)
        for operation in operations:
            match operation:
                case (Atoms.INSERT, (name, Pid() as pid, method)):
                    effects += self.insert(name, pid, method, registering_nodes.get((exact_key(name), pid)))
                    if not lock_held:
                        effects += self.delete(name)
        for operation in operations:
            match operation:
                case (Atoms.DELETE, name):
                    effects += self.delete(name)
        return effects


def _registering_nodes(external: Term) -> dict[tuple[Any, Pid], Atom]:
    """Parse ``[{Name, Pid, RegNode}]``. Items of another form are ignored."""
    found: dict[tuple[Any, Pid], Atom] = {}
    for item in external if isinstance(external, list) else ():
        match item:
            case (name, Pid() as pid, Atom() as node):
                found[exact_key(name), pid] = node
    return found


def compare_tables(
    table: NameTable, peer_entries: Iterable[Term], *, decide: bool
) -> tuple[list[Term], list[Conflict]]:
    """Compare our table with the peer's names.

    Return operations for our table, and the names that both have for different processes. Conflicts are returned only
    if ``decide``: the node with the smaller name decides, so that each conflict is decided once.
    """
    local_entries = {exact_key(name): (pid, method) for name, pid, method in table.entries()}
    operations: list[Term] = []
    conflicts: list[Conflict] = []
    for item in peer_entries:
        match item:
            case (name, Pid() as pid, method):
                local = local_entries.get(exact_key(name))
                if local is None:
                    operations.append((Atoms.INSERT, (name, pid, method)))
                elif local[0] != pid and decide:
                    conflicts.append(Conflict(name, pid, method, *local))
    return operations, conflicts


def conflict_operations(conflict: Conflict, answer: Term) -> tuple[Term | None, Term | None]:
    """Turn a resolve method's answer into operations: (for our table, for the peer's table).

    ``{badrpc, _}`` (the method could not be called) keeps the peer's process. An answer that is neither of the two
    pids removes the name.
    """
    match answer:
        case Pid() if answer == conflict.local_pid:
            return None, (Atoms.INSERT, (conflict.name, conflict.local_pid, conflict.local_method))
        case Pid() if answer == conflict.peer_pid:
            return (Atoms.INSERT, (conflict.name, conflict.peer_pid, conflict.peer_method)), None
        case (Atoms.BADRPC, _):
            return (Atoms.INSERT, (conflict.name, conflict.peer_pid, conflict.peer_method)), None
    return (Atoms.DELETE, conflict.name), (Atoms.DELETE, conflict.name)
