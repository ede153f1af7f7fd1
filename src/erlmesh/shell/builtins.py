"""The commands that need no module: ``self``, ``send``, ``receive``, ``flush``, ``pid``, ``spawn``, ``h`` …"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from erlmesh.errors import Exit
from erlmesh.formatting import node_by_number
from erlmesh.shell.commands import command, is_command
from erlmesh.shell.display import format_term
from erlmesh.shell.help import documentation, overview
from erlmesh.shell.inspection import describe
from erlmesh.shell.map_page import MapPage
from erlmesh.shell.tables import Table, group_table, node_table, process_table
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.node import Node, Process

__all__ = ["Builtins", "as_name", "destination", "full_node_name"]

OK: Final = Atom("ok")
NIL: Final = Atom("nil")


class Builtins:
    """The commands of one session. The session gives them its node, its process, earlier results and an output.

    ``me`` returns the current process of the shell. ``results`` maps line numbers to values. ``print_line`` prints
    one text to the session's output. ``remote`` says that somebody else looks at it.
    """

    def __init__(
        self,
        node: Node,
        me: Callable[[], Process],
        results: Mapping[int, Any],
        print_line: Callable[[str], None],
        *,
        remote: bool = False,
    ) -> None:
        self._node = node
        self._me = me
        self._results = results
        self._print_line = print_line
        self._page = MapPage(node, me, remote=remote)

    @property
    def me(self) -> Process:
        """The process of this shell."""
        return self._me()

    # Node and process

    @command(implicit_call=True)
    def self(self) -> Pid:
        """The pid of this shell."""
        return self._me().pid

    @command(implicit_call=True)
    def nodes(self) -> Table:
        """The connected visible nodes, in order of connection."""
        return node_table(self._node)

    @command()
    def node(self, of: Pid | Ref | None = None) -> Atom:
        """The name of this node, or the node of a pid or reference."""
        return self._node.internals.atom if of is None else of.node

    @command(implicit_call=True)
    def pids(self) -> Table:
        """The processes of this node, oldest first."""
        return process_table(self._node)

    @command(implicit_call=True)
    def processes(self) -> Table:
        """The same as pids."""
        return process_table(self._node)

    @command()
    def pid(self, number: str | int, serial: int | None = None, last: int | None = None) -> Pid:
        """The pid that prints as #PID<0.64.0>. Takes the text "0.64.0" or the three numbers."""
        if isinstance(number, str):
            parts = number.strip().removeprefix("#PID").strip("<>").split(".")
            if len(parts) != 3 or not all(part.isdigit() for part in parts):
                raise ValueError(f'a pid is written as three numbers, like pid("0.64.0"), not {number!r}')
            prefix, identifier, high = (int(part) for part in parts)
        else:
            prefix, identifier, high = number, serial or 0, last or 0
        return self._pid_from_printed(prefix, identifier, high)

    def _pid_from_printed(self, prefix: int, identifier: int, serial: int) -> Pid:
        node = self._node.internals.atom if prefix == 0 else node_by_number(prefix)
        if node is None:
            raise ValueError(f"no pid that begins with {prefix} has been printed here")
        creation = self._node.internals.creation_of(node)
        if creation is None:
            raise ValueError(f"{node.name} is not connected, so its creation is unknown; connect to it first")
        return Pid(node, identifier, serial, creation)

    # Messages

    @command()
    def send(self, to: Any, message: Term) -> Term:
        """Send a message to a pid, a registered name, or a tuple (name, node). Returns the message."""
        self._me().send(destination(to), message)
        return message

    @command()
    async def receive(self, timeout: float | None = None) -> Term:
        """Take the next message from the mailbox. Waits at most timeout seconds, or without a limit."""
        try:
            return await self._me().receive(timeout=timeout)
        except TimeoutError:
            raise TimeoutError(f"no message arrived within {timeout:g} s") from None

    @command()
    def flush(self) -> Atom:
        """Print all messages in the mailbox and remove them."""
        while (message := self._me().receive_nowait()) is not None:
            self._print_line(format_term(message))
        return OK

    @command()
    async def call(self, to: Any, request: Term, timeout: float | None = 5.0) -> Term:
        """gen_server:call: send a request to a local or remote server and return its reply."""
        return await self._me().call(destination(to), request, timeout=timeout)

    # Processes

    @command()
    def spawn(self, function: Callable[..., Any], *arguments: Any) -> Pid:
        """Start a process that runs a function, plain or async.

        If the function takes one argument more than given, its own process comes first:
        async def echo(me): send(shell, await me.receive())
        """
        return self._node.spawn(process_body(function, len(arguments)), *arguments)

    @command()
    def spawn_link(self, function: Callable[..., Any], *arguments: Any) -> Pid:
        """Start a process linked to this shell: if it fails, the shell's process exits too."""
        return self._me().spawn(process_body(function, len(arguments)), *arguments, link=True)

    @command()
    def monitor(self, target: Any) -> Ref:
        """Monitor a process: when it exits, a DOWN message arrives (flush shows it)."""
        return self._me().monitor(destination(target))

    @command()
    def demonitor(self, ref: Ref) -> bool:
        """Remove a monitor, and its DOWN message from the mailbox."""
        return self._me().demonitor(ref, flush=True)

    @command()
    def link(self, pid: Pid) -> bool:
        """Link this shell with a process: if one exits abnormally, so does the other."""
        self._me().link(pid)
        return True

    @command()
    def unlink(self, pid: Pid) -> bool:
        """Remove a link."""
        self._me().unlink(pid)
        return True

    @command()
    def exit(self, *arguments: Any) -> bool:
        """Leave the shell. With a pid and a reason such as :kill: send an exit signal to a local or remote process."""
        if len(arguments) == 2:
            self._me().exit(*arguments)
            return True
        if len(arguments) > 2:
            raise TypeError("exit() leaves the shell, exit(pid, reason) sends an exit signal")
        if arguments and not isinstance(arguments[0], int):
            raise Exit(arguments[0])
        raise SystemExit(*arguments)

    @command()
    def register(self, name: Any, pid: Pid | None = None) -> bool:
        """Register a name for a process of this node; without a pid, for this shell."""
        self._node.register(as_name(name), pid or self._me().pid)
        return True

    @command()
    def whereis(self, name: Any) -> Pid | Atom:
        """The process registered under a name on this node, or nil."""
        return self._node.whereis(as_name(name)) or NIL

    # Inspection

    @command(implicit_call=True)
    def groups(self) -> Table:
        """The groups that this node knows, each as {:pg, group, pids}."""
        return group_table(self._node)

    @command(implicit_call=True)
    async def observe(self) -> None:
        """Show the cluster in a web browser: the page of erlmesh map, until this shell ends."""
        self._print_line(await self._page.open())

    @command()
    async def i(self, thing: Any = None) -> None:
        """Print information about a process of any node or any other value; without an argument, about this shell."""
        self._print_line(await describe(self._node, self._me().pid if thing is None else thing))

    @command(quoted_arguments=True)
    def h(self, *things: Any) -> None:
        """Print help: an overview, or the documentation of a command or any other value."""
        self._print_line("\n".join(map(documentation, things)) if things else overview())

    @command()
    def v(self, number: int = -1) -> Any:
        """Return the value of a line by its number; without one the last value, with -2 the one before it."""
        if number < 0:
            number = sorted(self._results)[number] if -number <= len(self._results) else 0
        if number not in self._results:
            raise ValueError("that line has no stored value (or not any more)")
        return self._results[number]

    @command()
    def div(self, dividend: int, divisor: int) -> int:
        """Divide two integers and round towards zero, as Elixir does: -7 and 2 give -3."""
        quotient = abs(_integer(dividend)) // abs(_integer(divisor))
        return quotient if (dividend < 0) == (divisor < 0) else -quotient

    @command()
    def rem(self, dividend: int, divisor: int) -> int:
        """Return the remainder of an integer division, with the sign of the dividend: -7 and 2 give -1."""
        remainder = abs(_integer(dividend)) % abs(_integer(divisor))
        return -remainder if dividend < 0 else remainder

    @command()
    def length(self, items: Any) -> int:
        """The number of elements of a list."""
        return len(items)


def _integer(number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"div and rem take integers, not {format_term(number)}")
    return number


def process_body(function: Callable[..., Any], argument_count: int) -> Callable[..., Any]:
    """Return a process body that calls ``function``.

    The process is the first argument if ``function`` takes one argument more than ``argument_count``.
    Raises TypeError if ``function`` is not callable.
    """
    if not callable(function):
        raise TypeError(f"spawn takes a function, not {type(function).__name__}")

    with_process = not is_command(function) and _accepts(function, argument_count + 1)

    async def body(me: Process, *arguments: Any) -> None:
        try:
            result = function(me, *arguments) if with_process else function(*arguments)
            if inspect.isawaitable(result):
                await result
        except SystemExit:  # exit() in a spawned function ends that process; it must not end the node
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
    """Convert a registered name, given as an atom or as text, to an atom. Raises TypeError for other types."""
    if not isinstance(name, (Atom, str)):
        raise TypeError(f"a name is an atom, like :worker, not {format_term(name)}")
    return Atom(name)


def full_node_name(name: Any, like: str) -> str:
    """Return a node name, given as an atom or as text. Without a host it gets the host of the node ``like``."""
    text = as_name(name).name
    return text if "@" in text else f"{text}@{like.partition('@')[2]}"


def destination(to: Any) -> Any:
    if isinstance(to, (Pid, Ref, Atom, str)) or (isinstance(to, tuple) and len(to) == 2):
        return to
    raise TypeError(f"messages go to a pid, a registered name, or (name, node), not to {format_term(to)}")
