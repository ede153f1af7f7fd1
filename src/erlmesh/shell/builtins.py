"""The commands that need no module: ``self``, ``send``, ``receive``, ``flush``, ``pid``, ``spawn``, ``h`` …"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from erlmesh.errors import Exit
from erlmesh.formatting import node_by_number
from erlmesh.shell.commands import command, is_command
from erlmesh.shell.display import format_term
from erlmesh.shell.help import describe, documentation, overview
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.node import Node, Process

__all__ = ["Builtins", "as_name", "full_node_name"]

OK: Final = Atom("ok")
NIL: Final = Atom("nil")


class Builtins:
    """What the commands need of the session: its node, its process, the results so far, a place for text."""

    def __init__(
        self,
        node: Node,
        me: Callable[[], Process],
        results: Mapping[int, Any],
        print_line: Callable[[str], None],
    ) -> None:
        self._node = node
        self._me = me
        self._results = results
        self._print_line = print_line

    @property
    def me(self) -> Process:
        """The process of this shell."""
        return self._me()

    # Who and where

    @command(implicit_call=True)
    def self(self) -> Pid:
        """The pid of this shell."""
        return self._me().pid

    @command(implicit_call=True)
    def nodes(self) -> list[Atom]:
        """The connected nodes, in order of connection."""
        return [Atom(name) for name in self._node.nodes()]

    @command()
    def node(self, of: Pid | Ref | None = None) -> Atom:
        """The name of this node, or of the node that a pid or reference belongs to."""
        return self._node.atom if of is None else of.node

    @command(implicit_call=True)
    def pids(self) -> list[Pid]:
        """The processes of this node, oldest first."""
        return self._node.processes()

    @command()
    def pid(self, number: str | int, serial: int | None = None, last: int | None = None) -> Pid:
        """The process that prints as #PID<0.64.0>, by the text "0.64.0" or three numbers."""
        if isinstance(number, str):
            parts = number.strip().removeprefix("#PID").strip("<>").split(".")
            if len(parts) != 3 or not all(part.isdigit() for part in parts):
                raise ValueError(f'a pid is written as three numbers, like pid("0.64.0"), not {number!r}')
            prefix, identifier, high = (int(part) for part in parts)
        else:
            prefix, identifier, high = number, serial or 0, last or 0
        return self._pid_from_printed(prefix, identifier, high)

    def _pid_from_printed(self, prefix: int, identifier: int, serial: int) -> Pid:
        node = self._node.atom if prefix == 0 else node_by_number(prefix)
        if node is None:
            raise ValueError(f"no pid that begins with {prefix} has been printed here")
        creation = self._node._creation_of(node)
        if creation is None:
            raise ValueError(f"{node.name} is not connected, so nobody can know which of its lives is meant")
        return Pid(node, identifier, serial, creation)

    # Messages

    @command()
    def send(self, to: Any, message: Term) -> Term:
        """Sends to a pid, a registered name, or a tuple (name, node); returns the message."""
        self._me().send(_destination(to), message)
        return message

    @command()
    async def receive(self, timeout: float | None = None) -> Term:
        """The next message of the mailbox; waits for it, at most timeout seconds."""
        try:
            return await self._me().receive(timeout=timeout)
        except TimeoutError:
            raise TimeoutError(f"no message came within {timeout:g} s") from None

    @command()
    def flush(self) -> Atom:
        """Prints all messages in the mailbox and removes them."""
        while (message := self._me().receive_nowait()) is not None:
            self._print_line(format_term(message))
        return OK

    @command()
    async def call(self, to: Any, request: Term, timeout: float | None = 5.0) -> Term:
        """gen_server:call: the reply of a server here or elsewhere."""
        return await self._me().call(_destination(to), request, timeout=timeout)

    # Processes

    @command()
    def spawn(self, function: Callable[..., Any], *arguments: Any) -> Pid:
        """Starts a process that runs a function, plain or async. One that takes one argument more than it is given
        gets its own process first: async def echo(me): send(shell, await me.receive())
        """
        return self._node.spawn(process_body(function, len(arguments)), *arguments)

    @command()
    def spawn_link(self, function: Callable[..., Any], *arguments: Any) -> Pid:
        """The same, linked to this shell: if it fails, the shell's process dies with it."""
        return self._me().spawn(process_body(function, len(arguments)), *arguments, link=True)

    @command()
    def monitor(self, target: Any) -> Ref:
        """When the process goes, a DOWN message comes (flush shows it)."""
        return self._me().monitor(_destination(target))

    @command()
    def demonitor(self, ref: Ref) -> bool:
        """Takes a monitor back."""
        return self._me().demonitor(ref, flush=True)

    @command()
    def link(self, pid: Pid) -> bool:
        """Links this shell with a process: if one dies of a fault, so does the other."""
        self._me().link(pid)
        return True

    @command()
    def unlink(self, pid: Pid) -> bool:
        """Takes a link back."""
        self._me().unlink(pid)
        return True

    @command()
    def exit(self, *arguments: Any) -> bool:
        """Leaves the shell; with a pid and a reason, such as :kill, it ends a process, here or elsewhere."""
        if len(arguments) == 2:
            self._me().exit(*arguments)
            return True
        if len(arguments) > 2:
            raise TypeError("exit() leaves, exit(pid, reason) ends a process")
        if arguments and not isinstance(arguments[0], int):
            raise Exit(arguments[0])
        raise SystemExit(*arguments)

    @command()
    def register(self, name: Any, pid: Pid | None = None) -> bool:
        """Gives a process of this node (this shell, without a pid) a name for send."""
        self._node.register(as_name(name), pid or self._me().pid)
        return True

    @command()
    def whereis(self, name: Any) -> Pid | Atom:
        """The process of this node registered under a name, or :nil."""
        return self._node.whereis(as_name(name)) or NIL

    # Looking around

    @command()
    def groups(self) -> None:
        """Prints the groups this node knows, with their members."""
        lines = [("pg", group, self._node.pg.get_members(group)) for group in self._node.pg.which_groups()]
        lines += [("pg2", group, self._node.pg2.get_members(group)) for group in self._node.pg2.which_groups()]
        for kind, group, members in lines:
            self._print_line(f"{kind:<4} {format_term(group):<20} {format_term(members)}")
        if not lines:
            self._print_line("no groups yet: pg.join(:group, self) makes one")

    @command()
    def i(self, thing: Any = None) -> None:
        """Prints what is known about a process or any other value."""
        self._print_line(describe(self._node, self._me().pid if thing is None else thing))

    @command(quoted_arguments=True)
    def h(self, *things: Any) -> None:
        """Help: without arguments an overview, with one of the commands or anything else about that."""
        self._print_line("\n".join(map(documentation, things)) if things else overview())

    @command()
    def v(self, number: int = -1) -> Any:
        """The value of a line by its number; without one that of the last, with -2 the one before."""
        if number < 0:
            number = sorted(self._results)[number] if -number <= len(self._results) else 0
        if number not in self._results:
            raise ValueError("that line has left no value (any more)")
        return self._results[number]

    @command()
    def length(self, items: Any) -> int:
        """How many elements a list has."""
        return len(items)


def process_body(function: Callable[..., Any], argument_count: int) -> Callable[..., Any]:
    """A process body that calls ``function``, with its own process first if it takes one more argument than given."""
    if not callable(function):
        raise TypeError(f"spawn takes a function, not {type(function).__name__}")

    with_process = not is_command(function) and _accepts(function, argument_count + 1)

    async def body(me: Process, *arguments: Any) -> None:
        try:
            result = function(me, *arguments) if with_process else function(*arguments)
            if inspect.isawaitable(result):
                await result
        except SystemExit:  # ends the process that said so, not the node
            return

    body.__qualname__ = getattr(function, "__qualname__", repr(function))
    return body


def _accepts(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def as_name(name: Any) -> Atom:
    """A registered name given as an atom or as text."""
    if not isinstance(name, (Atom, str)):
        raise TypeError(f"a name is an atom, like :worker, not {format_term(name)}")
    return Atom(name)


def full_node_name(name: Any, like: str) -> str:
    """A node's name given as an atom or as text; without a host it gets the host of the node ``like``."""
    text = as_name(name).name
    return text if "@" in text else f"{text}@{like.partition('@')[2]}"


def _destination(to: Any) -> Any:
    if isinstance(to, (Pid, Ref, Atom, str)) or (isinstance(to, tuple) and len(to) == 2):
        return to
    raise TypeError(f"messages go to a pid, a registered name, or (name, node), not to {format_term(to)}")
