"""The local processes of a node, by pid, by name and by alias."""

from __future__ import annotations

from erlmesh.core.identifiers import Identifiers
from erlmesh.core.registered_names import require_registrable
from erlmesh.runtime.process import LocalProcess
from erlmesh.terms import Atom, Pid, Ref

__all__ = ["ProcessRegistry"]


class ProcessRegistry:
    """The living processes of one node instance.

    Other modules may read the three tables. Only the methods here change them.
    """

    def __init__(self, identifiers: Identifiers) -> None:
        self.identifiers = identifiers
        self.processes: dict[int, LocalProcess] = {}
        """By number, ``pid.id | pid.serial << 32``. All pids here have the same node and creation."""
        self.names: dict[Atom, LocalProcess] = {}
        self.aliases: dict[Ref, LocalProcess] = {}
        self._node = identifiers.node
        self._creation = identifiers.creation

    def local(self, pid: Pid) -> LocalProcess | None:
        """Return the living process with this pid, or None. A pid from an earlier incarnation matches no process."""
        process = self.processes.get(pid.id | pid.serial << 32)
        if process is None or pid.creation != self._creation or pid.node is not self._node:
            return None
        return process

    def add(self, process: LocalProcess) -> None:
        """Enter a new process by its pid."""
        self.processes[process._number] = process

    def remove(self, process: LocalProcess) -> None:
        """Remove a process together with its names and aliases. Names are free again."""
        del self.processes[process._number]
        for name in process._names:
            del self.names[name]
        for ref in process._aliases:
            del self.aliases[ref]
        process._aliases.clear()

    def register(self, name: Atom, pid: Pid) -> None:
        """Register ``name``. Raises ``ValueError`` if it is taken or ``pid`` is not a living local process."""
        process = self.local(pid)
        if process is None:
            raise ValueError(f"cannot register {pid} as {name}: it is not a living process of this node")
        self.register_name(name, process)

    def register_name(self, name: Atom, process: LocalProcess) -> None:
        """Register ``name`` for ``process``. Raises as :meth:`require_free`."""
        self.require_free(name)
        self.names[name] = process
        process._names.append(name)

    def require_free(self, name: Atom) -> None:
        """Raise ``ValueError`` if ``name`` is taken or is no name for a process."""
        require_registrable(name)
        if name in self.names:
            raise ValueError(f"the name {name} is taken by {self.names[name].pid}")

    def unregister_name(self, name: Atom) -> bool:
        """Unregister ``name``. False if it was not registered."""
        process = self.names.pop(name, None)
        if process is not None:
            process._names.remove(name)
        return process is not None

    def alias(self, process: LocalProcess) -> Ref:
        """Create an alias of ``process``: a reference that messages can be sent to."""
        ref = self.identifiers.ref()
        self.aliases[ref] = process
        process._aliases[ref] = None
        return ref

    def unalias(self, process: LocalProcess, ref: Ref) -> bool:
        """Remove an alias. False if ``ref`` is not an alias of this process."""
        if self.aliases.get(ref) is not process:
            return False
        del self.aliases[ref]
        del process._aliases[ref]
        return True
