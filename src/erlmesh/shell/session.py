"""One session of the shell: a node, a process that runs the lines, the bound names, and the printed results.

The frontends (:mod:`erlmesh.shell.terminal_frontend`, :mod:`erlmesh.shell.pipe_frontend`) only read lines and show the
prompt.
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
from erlmesh.shell.call_modules import ErlangModule, ErpcModule, GenServerModule, NetAdmModule, RpcModule
from erlmesh.shell.commands import commands_of, syntax_lookup
from erlmesh.shell.completion import Completion, complete
from erlmesh.shell.completion_sources import CompletionSources
from erlmesh.shell.display import cache_source, format_error, format_term, format_value
from erlmesh.shell.elixir_hints import interpolation_hint, mentions_constants, syntax_hint
from erlmesh.shell.elixir_syntax import ERLANG_MODULES, hidden
from erlmesh.shell.error_hints import explain
from erlmesh.shell.evaluator import Evaluator, Exited, Interrupted, ProcessDied, Raised, Value
from erlmesh.shell.interrupts import Interrupts
from erlmesh.shell.kernel_modules import NetKernelModule, NodeMonitors, SysModule
from erlmesh.shell.lists import CONS, cons
from erlmesh.shell.map_access import AT, at
from erlmesh.shell.modules import GlobalModule, NodeModule, Pg2Module, ProcessModule
from erlmesh.shell.parser import NOT_A_COMMAND, parse
from erlmesh.shell.pg_module import PgModule
from erlmesh.terms import Pid, Term

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["Session"]

MAX_RESULTS: Final = 100
"""Number of results that ``v`` can return; older ones are dropped."""


class Session:
    """A session on ``node``. Implements :class:`erlmesh.shell.session_protocol.ShellSession`.

    ``number`` is the number of the next line. ``exit_code`` is None until the user leaves the shell. ``out`` and
    ``err`` default to stdout and stderr. A ``remote`` session installs no signal handlers, and its ``print`` writes to
    ``out``.
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
            "asyncio": asyncio,  # for users who await other things than the shell's commands
            "_": None,
        }
        self._evaluator = Evaluator(node, self.namespace, self.interrupts, self._on_process_exit)
        self._syntax_of = syntax_lookup(self.namespace)
        self._completion_sources = CompletionSources(node)
        self._bind_names()
        if remote:
            self.namespace["print"] = _print_to(out)

    def _bind_names(self) -> None:
        builtin_commands = Builtins(
            self.node, lambda: self._evaluator.me, self._results, self.print_result, remote=self._remote
        )
        monitors, process = NodeMonitors(self.node, builtin_commands), ProcessModule(self.node, builtin_commands)
        nodes = NodeModule(self.node, builtin_commands, monitors, self.print_hint)
        servers = GenServerModule(self.node, builtin_commands)
        self.namespace |= {name: getattr(terms, name) for name in terms.__all__ if name[0].isupper()}
        self._commands: dict[str, Any] = {
            **commands_of(builtin_commands),
            "Node": nodes,
            "Process": process,
            "GenServer": servers,
            "gen_server": servers,
            "pg": PgModule(self.node, builtin_commands),
            "pg2": Pg2Module(self.node),
            "global_": GlobalModule(self.node, builtin_commands),
            "rpc": RpcModule(self.node, builtin_commands),
            "erpc": ErpcModule(self.node),
            "net_adm": NetAdmModule(self.node, nodes),
            "net_kernel": NetKernelModule(self.node, nodes.connect, monitors),
            "sys": SysModule(self.node, builtin_commands, servers.destination_of),
            "erlang": ErlangModule(self.node, builtin_commands, nodes, process),
            "nil": terms.Atom("nil"),
            "true": True,
            "false": False,
        }
        self.namespace |= self._commands
        self.namespace |= {CONS: cons, AT: at, hidden("Atom"): terms.Atom, hidden("pid"): builtin_commands.pid}
        self.namespace |= {hidden(name): self._commands[name] for name in ERLANG_MODULES}

    @property
    def node_name(self) -> str:
        """The name of the node that runs the lines."""
        return self.node.name

    @property
    def prompt(self) -> str:
        """The prompt of the next line, such as ``py(socrates@127.0.0.1)3> ``."""
        return f"py({self.node.name}){self.number}> "

    async def start(self) -> Pid:
        """Start the process that runs the lines, if there is none. Returns its pid."""
        if not self._remote:
            self.node.on_loop_blocked(self.interrupts.on_loop_blocked)
        me = await self._evaluator.process()
        self.namespace["me"] = me
        return me.pid

    def close(self) -> None:
        """Prepare for the end of the node: the exit of the shell's process is not reported any more."""
        if not self._remote:
            self.node.on_loop_blocked(None)
        self._evaluator.close()

    def terminate(self) -> None:
        """Close the session and kill the process that runs its lines. For a node that keeps running."""
        self._evaluator.terminate()

    def interrupt(self) -> None:
        """Stop the running line, if there is one."""
        self.interrupts.interrupt()

    async def completions(self, text_before_cursor: str) -> list[Completion]:
        """Return the completions at the end of ``text_before_cursor``."""
        return complete(text_before_cursor, self.namespace, await self._completion_sources.refresh())

    def parse(self, text: str, *, final: bool) -> ast.Module | None:
        """Return the tree of a line, or None if more lines must follow. Raises SyntaxError."""
        return parse(text, self._syntax_of, final=final, filename=self._filename)

    def is_complete(self, text: str) -> bool:
        """Return true if Enter ends the line: it can run, or its error cannot be fixed by more text."""
        try:
            return self.parse(text, final=False) is not None
        except SyntaxError:
            return True

    async def run(self, text: str) -> None:
        """Run a complete line and print its result or error. Does not raise the line's exceptions."""
        filename = self._filename
        try:
            tree = self.parse(text, final=True)
            if tree is None:
                raise SyntaxError("the line ends too early", (filename, 1, None, None))
        except SyntaxError as error:
            self.print_error(format_error(error, syntax_hint(text)))
            return
        if not tree.body:
            return
        cache_source(filename, text)
        await self.start()
        outcome = await self._evaluator.run(tree, filename)
        for name in self._commands.keys() - self.namespace.keys():
            self.namespace[name] = self._commands[name]  # `del pid` deletes the variable, and the command is back
        match outcome:
            case Value(value):
                self._store_result(value, is_elixir=self._is_elixir(text, tree))
                if hint := interpolation_hint(text):
                    self.print_hint(hint)
            case Raised(raised):
                self.print_error(format_error(raised, explain(raised, text, self.namespace, self._commands)))
            case Interrupted():
                self.print_error("** interrupted")
            case Exited(code):
                self.exit_code = code
            case ProcessDied():
                pass  # _on_process_exit has printed it
        self.number += 1

    @property
    def _filename(self) -> str:
        return f"<py {self.number}>"

    def _is_elixir(self, text: str, tree: ast.Module) -> bool:
        """Whether a line names Elixir's constants, or is one call of a command: its answer looks as in iex."""
        if mentions_constants(text):
            return True
        last = tree.body[-1]
        node: ast.AST = last.value if isinstance(last, ast.Expr) else last
        node = node.value if isinstance(node, ast.Await) else node
        node = node.func if isinstance(node, ast.Call) else node
        return isinstance(node, (ast.Name, ast.Attribute)) and self._syntax_of(ast.unparse(node)) is not NOT_A_COMMAND

    def _store_result(self, value: Any, *, is_elixir: bool) -> None:
        if value is None:
            return
        self.print_result(format_value(value, is_elixir=is_elixir))
        self.namespace["_"] = value
        self._results[self.number] = value
        if len(self._results) > MAX_RESULTS:
            del self._results[next(iter(self._results))]

    def _on_process_exit(self, pid: Pid, reason: Term) -> None:
        self.print_error(
            f"** (EXIT from {format_term(pid)}) the shell's process exited: {format_term(reason)}\n"
            "   A new process replaces it: new self(), no groups, empty mailbox. Names stay bound."
        )

    # Output. The streams are looked up at each use, because a frontend may have replaced sys.stdout.

    def print_result(self, text: str) -> None:
        """Print a result."""
        print(text, file=self._out or sys.stdout, flush=True)

    def print_error(self, text: str) -> None:
        """Print an error."""
        print(text, file=self._err or sys.stderr, flush=True)

    def print_hint(self, text: str) -> None:
        """Print a hint, indented below a result."""
        print(f"   {text}", file=self._err or sys.stderr, flush=True)


def _print_to(out: TextIO | None) -> Callable[..., None]:
    def print_to(
        *values: Any, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False
    ) -> None:
        builtins.print(*values, sep=sep, end=end, file=file or out, flush=flush)

    print_to.__doc__ = builtins.print.__doc__
    return print_to
