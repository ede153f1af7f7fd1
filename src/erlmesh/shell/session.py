"""One session: a node, a process to run lines in, the names bound so far, and what is printed about each line.

Fronts (:mod:`erlmesh.shell.terminal_frontend`, :mod:`erlmesh.shell.pipe_frontend`) only bring the text and show the prompt.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TextIO

from erlmesh import terms
from erlmesh.shell.builtins import Builtins
from erlmesh.shell.commands import commands_of, syntax_lookup
from erlmesh.shell.completion import Completion, complete
from erlmesh.shell.completion_sources import CompletionSources
from erlmesh.shell.display import cache_source, format_error, format_term, format_value
from erlmesh.shell.evaluator import Evaluator, Exited, Interrupted, ProcessDied, Raised, Value
from erlmesh.shell.interrupts import Interrupts
from erlmesh.shell.modules import GlobalModule, NodeModule, Pg2Module, PgModule, ProcessModule, RpcModule
from erlmesh.shell.parser import parse
from erlmesh.terms import Pid, Term

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["Session"]

MAX_RESULTS: Final = 100


class Session:
    """``number`` is that of the line to be typed next; ``left`` is the exit code once somebody has asked to leave.

    A session that is ``far`` from whoever types takes no signals of this program, and what its lines ``print`` goes
    where its results go.
    """

    def __init__(
        self, node: Node, *, out: TextIO | None = None, err: TextIO | None = None, remote: bool = False
    ) -> None:
        self.node = node
        self.number = 1
        self.exit_code: int | None = None
        self._out = out
        self._err = err
        self._remote = remote
        self._results: dict[int, Any] = {}
        self.interrupts = Interrupts(self.print_hint, signals=not remote)
        self.namespace: dict[str, Any] = {
            "__name__": "__main__",
            "__builtins__": builtins,
            "asyncio": asyncio,  # for those who await more than the shell's own words
            "_": None,
        }
        self._evaluator = Evaluator(node, self.namespace, self.interrupts, self._on_process_exit)
        self._syntax_of = syntax_lookup(self.namespace)
        self._completion_sources = CompletionSources(node)
        self._bind_names()
        if remote:
            self.namespace["print"] = _print_to(out)

    def _bind_names(self) -> None:
        words = Builtins(self.node, lambda: self._evaluator.me, self._results, self.print_result)
        self.namespace |= {name: getattr(terms, name) for name in terms.__all__ if name[0].isupper()}
        self.namespace |= commands_of(words)
        self.namespace |= {
            "Node": NodeModule(self.node, self.print_hint),
            "Process": ProcessModule(self.node, words),
            "pg": PgModule(self.node),
            "pg2": Pg2Module(self.node),
            "global_": GlobalModule(self.node),
            "rpc": RpcModule(self.node, words),
            "nil": terms.Atom("nil"),
            "true": True,
            "false": False,
        }

    @property
    def node_name(self) -> str:
        """The node whose prompt it is."""
        return self.node.name

    @property
    def prompt(self) -> str:
        """``py(socrates@127.0.0.1)3> ``"""
        return f"py({self.node.name}){self.number}> "

    async def start(self) -> Pid:
        """Sees to it that there is a process to run lines in, and returns its pid."""
        if not self._remote:
            self.node.on_loop_blocked(self.interrupts.on_loop_blocked)
        me = await self._evaluator.process()
        self.namespace["me"] = me
        return me.pid

    def close(self) -> None:
        """The end of the node is no news from here on."""
        if not self._remote:
            self.node.on_loop_blocked(None)
        self._evaluator.close()

    def terminate(self) -> None:
        """Closes it and ends the process that its lines run in, if the node is to go on without it."""
        self._evaluator.terminate()

    def interrupt(self) -> None:
        """Stops the line that runs, if there is one."""
        self.interrupts.interrupt()

    async def completions(self, text_before_cursor: str) -> list[Completion]:
        """What Tab offers."""
        return complete(text_before_cursor, self.namespace, await self._completion_sources.refresh())

    def parse(self, text: str, *, final: bool) -> ast.Module | None:
        """The line as a tree; None when more must follow. Raises SyntaxError."""
        return parse(text, self._syntax_of, final=final, filename=self._filename)

    def is_complete(self, text: str) -> bool:
        """Whether Enter ends the line here: it can run, or nothing that follows could make it right."""
        try:
            return self.parse(text, final=False) is not None
        except SyntaxError:
            return True

    async def run(self, text: str) -> None:
        """Runs a whole line and prints what it gives; it raises nothing of the line's own."""
        filename = self._filename
        try:
            tree = self.parse(text, final=True)
            if tree is None:
                raise SyntaxError("the line ends too early", (filename, 1, None, None))
        except SyntaxError as error:
            self.print_error(format_error(error))
            return
        if not tree.body:
            return
        cache_source(filename, text)
        await self.start()
        outcome = await self._evaluator.run(tree, filename)
        match outcome:
            case Value(value):
                self._store_result(value)
            case Raised(raised):
                self.print_error(format_error(raised))
            case Interrupted():
                self.print_error("** interrupted")
            case Exited(code):
                self.exit_code = code
            case ProcessDied():
                pass  # that has been said
        self.number += 1

    @property
    def _filename(self) -> str:
        return f"<py {self.number}>"

    def _store_result(self, value: Any) -> None:
        if value is None:
            return
        self.print_result(format_value(value))
        self.namespace["_"] = value
        self._results[self.number] = value
        if len(self._results) > MAX_RESULTS:
            del self._results[next(iter(self._results))]

    def _on_process_exit(self, pid: Pid, reason: Term) -> None:
        self.print_error(
            f"** (EXIT from {format_term(pid)}) the shell's process ended: {format_term(reason)}\n"
            "   another takes its place, with a new self(), in no group and with no messages; names stay bound"
        )

    # What is printed. Looked up at each use: a front may have put its own streams in place.

    def print_result(self, text: str) -> None:
        """A result."""
        print(text, file=self._out or sys.stdout, flush=True)

    def print_error(self, text: str) -> None:
        """An error."""
        print(text, file=self._err or sys.stderr, flush=True)

    def print_hint(self, text: str) -> None:
        """A remark beside a result."""
        print(f"   {text}", file=self._err or sys.stderr, flush=True)


def _print_to(out: TextIO | None) -> Callable[..., None]:
    def printing(
        *values: Any, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False
    ) -> None:
        builtins.print(*values, sep=sep, end=end, file=file or out, flush=flush)

    printing.__doc__ = builtins.print.__doc__
    return printing
