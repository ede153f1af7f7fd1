"""A real Erlang node of any OTP that a test drives: it evaluates expressions, and can be killed and paused."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from erlmesh.etf import decode, encode
from erlmesh.terms import Atom, Pid, Term
from os_process import MARK, NodeProcess, sorted_pids
from polling import HANG

__all__ = ["Beam", "NoSuchOtp", "installed_otp", "programs"]

TOOLS = Path(__file__).parents[2] / "tools"

# One process reads requests and evaluates them one after the other, keeping variables as Erlang's shell does.
EVALUATE = """
Answer = fun(Number, Verdict, Value) ->
    io:put_chars(standard_io, [MARK, " ", Number, " ", Verdict, " ", base64:encode(Value), "\\n"])
end,
Field = fun("-") -> <<>>; (Text) -> base64:decode(Text) end,
Loop = fun(Loop, Variables) ->
    case io:get_line(standard_io, "") of
        Line when is_list(Line) ->
            [Number, Source, Given] = string:lexemes(Line, " \\n"),
            Next =
                try
                    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list([Field(Source), "."])),
                    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
                    Bound = lists:foldl(fun({Name, Value}, So) -> erl_eval:add_binding(Name, Value, So) end,
                                        Variables, binary_to_term(Field(Given))),
                    {value, Result, After} = erl_eval:exprs(Expressions, Bound),
                    Answer(Number, "ok", term_to_binary(Result)),
                    After
                catch Class:Reason:Stack ->
                    Text = io_lib:format("~0tp:~0tp~n~0tp", [Class, Reason, Stack]),
                    Answer(Number, "error", unicode:characters_to_binary(Text)),
                    Variables
                end,
            Loop(Loop, Next);
        _ ->
            erlang:halt(0, [{flush, false}])
    end
end,
spawn(fun() -> Answer("0", "ok", atom_to_binary(node(), utf8)), Loop(Loop, erl_eval:new_bindings()) end)
""".replace("MARK", str(ord(MARK)))


class NoSuchOtp(Exception):
    """This machine cannot get that Erlang/OTP. The message is the reason."""


@functools.cache
def installed_otp() -> int | None:
    """The release of the installed Erlang, or None."""
    erl = shutil.which("erl")
    if erl is None:
        return None
    expression = "io:format(erlang:system_info(otp_release)), halt()."
    says = subprocess.run([erl, "-noshell", "-eval", expression], capture_output=True, text=True, check=True)
    return int(says.stdout)


@functools.cache
def programs(otp: int | None = None) -> Path:
    """The folder with ``erl``, ``iex``, ``erlc`` and ``epmd`` of that OTP: installed, or fetched into ``.otp``."""
    if otp is None or otp == installed_otp():
        erl = shutil.which("erl")
        if erl is None:
            raise NoSuchOtp("Erlang is not installed")
        return Path(erl).parent
    brought = subprocess.run([sys.executable, TOOLS / "otp.py", str(otp)], capture_output=True, text=True, check=False)
    if brought.returncode:
        raise NoSuchOtp(brought.stderr.strip())
    return Path(brought.stdout.strip()).parent


class Beam(NodeProcess):
    """``erl -name NAME`` with a cookie, under a private EPMD port, ready to evaluate expressions.

    ``arguments`` go to ``erl`` unchanged (``["-kernel", "net_ticktime", "8"]``). A ``name`` without ``@`` gets the
    host 127.0.0.1. ``core`` pins it to one core. An EPMD must run: this class starts none, because that EPMD would
    outlive the test.
    """

    def __init__(
        self,
        name: str,
        *,
        epmd_port: int,
        home: Path,
        cookie: str = "monster",
        otp: int | None = None,
        arguments: tuple[str, ...] | list[str] = (),
        environment: Mapping[str, str] | None = None,
        core: int | None = None,
        exec_prefix: Sequence[str] = (),
    ) -> None:
        self.otp = otp or installed_otp()
        folder = programs(otp)
        full = name if "@" in name else f"{name}@127.0.0.1"
        command = [
            *(str(folder / "erl"), "-name", full, "-setcookie", cookie, "-noshell", "-start_epmd", "false"),
            *arguments,
            *("-eval", EVALUATE + "."),
        ]
        environment_of_node = {**otp_environment(epmd_port, home, folder), **(environment or {})}
        super().__init__(full, command, environment_of_node, core=core, exec_prefix=exec_prefix)
        self.atom = Atom(full)

    def eval(self, source: str, *, timeout: float = HANG, **bindings: Term) -> Term:
        """The value of ``source`` (Erlang expressions; no closing dot), as a term; ``bindings`` are variables.

        A variable keeps its value from one call to the next. Raises :class:`EvaluationFailed` with Erlang's reason.
        """
        return decode(self.request(source.encode(), _pairs(bindings), timeout=timeout))

    async def eval_async(self, source: str, *, timeout: float = HANG, **bindings: Term) -> Term:
        """:meth:`eval` while the test's own event loop runs."""
        return decode(await self.request_async(source.encode(), _pairs(bindings), timeout=timeout))

    def external(self, source: str, **bindings: Term) -> bytes:
        """``term_to_binary`` of the value, not decoded."""
        return self.request(source.encode(), _pairs(bindings))

    def text(self, source: str, **bindings: Term) -> str:
        """The value as Erlang prints it."""
        shown = self.eval(f'unicode:characters_to_binary(io_lib:format("~0tp", [begin {source} end]))', **bindings)
        return str(shown.decode())

    def nodes(self) -> set[str]:
        """The visible nodes that it is connected to."""
        return {node.name for node in self.eval("nodes()")}

    def ping(self, node: str) -> bool:
        return bool(self.eval("net_adm:ping(PingedNode__)", PingedNode__=Atom(node)) == Atom("pong"))

    def join(self, group: Term) -> Pid:
        """Joins the evaluating process to a group of ``pg``, starting that if need be; gives its pid."""
        pid = self.eval("_ = pg:start(pg), ok = pg:join(JoinedGroup__, self()), self()", JoinedGroup__=group)
        assert isinstance(pid, Pid)
        return pid

    def members(self, group: Term) -> list[Pid]:
        """``pg:get_members``, as a sorted list (the order of members differs from node to node)."""
        return sorted_pids(self.eval("_ = pg:start(pg), pg:get_members(ListedGroup__)", ListedGroup__=group))

    def halt(self) -> None:
        """``erlang:halt(0)``: end at once, without an orderly shutdown."""
        self.write("0 aGFsdCgp g2o=")  # halt(), with no variables; no answer comes
        self.wait()


def otp_environment(epmd_port: int, home: Path, folder: Path) -> dict[str, str]:
    """The environment of an isolated BEAM: its own EPMD port and home, and no crash dump."""
    return {
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_CRASH_DUMP": os.devnull,
        "HOME": str(home),
        "PATH": f"{folder}:{os.environ['PATH']}",
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }


def _pairs(bindings: Mapping[str, Any]) -> bytes:
    return encode([(Atom(name), value) for name, value in bindings.items()])
