"""Print the members of a process group, as a node of the cluster sees them."""

from __future__ import annotations

import argparse
import asyncio
import shlex

from erlmesh import Atom, ErlmeshError, Node, Pid, Term
from erlmesh.cli.hidden_client import hidden_client
from erlmesh.cli.output import print_error
from erlmesh.cli.settings import add_node_options
from erlmesh.cli.term_parser import format_argument, parse_atom, parse_group
from erlmesh.doctor.service_checks import parse_blocked_peers
from erlmesh.formatting import format_elixir
from erlmesh.records import record
from erlmesh.terms.foreign_text import printable_sentence

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh members greeters --on plato@127.0.0.1
  socrates@127.0.0.1 <0.114.0>
  plato@127.0.0.1 <0.64.0>

GROUP is any term. Plain text is a binary, as a str is in Python and "greeters" in Elixir:
  greeters               pg.join("greeters", pid)       binary
  :greeters              pg:join(greeters, Pid)         atom
  '{:room, 7}'           a tuple, or any other term in Elixir's or Erlang's notation

Each line is one time that a process joined. "blocked for 5 s" behind it means that code blocks the event loop of
its node, which then answers nothing. The exit status is 1 if the group has no members."""


@record(frozen=True)
class _Question:
    """One group, in one scope of pg or in pg2."""

    group: Term
    scope: Atom | None

    @property
    def module(self) -> str:
        return "pg2" if self.scope is None else "pg"

    @property
    def request(self) -> Term:
        # OTP has pg:get_members/1 for the default scope and /2 for others. pg2 has no scopes.
        arguments = [self.group] if self.scope in (None, Atom("pg")) else [self.scope, self.group]
        return (Atom("call"), Atom(self.module), Atom("get_members"), arguments, Atom("user"))

    @property
    def options(self) -> str:
        """The options that ask the same scope."""
        if self.scope is None:
            return " --pg2"
        return "" if self.scope is Atom("pg") else f" --scope {shlex.quote(self.scope.name)}"

    @property
    def other_service(self) -> str:
        """How to ask the other service, if the default scope of pg was asked."""
        return ". Add --pg2 to ask pg2" if self.scope is Atom("pg") else ""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP", help="the group: greeters, :greeters, or any other term")
    parser.add_argument("--on", metavar="NODE", required=True, help="the node to ask, such as plato@127.0.0.1")
    parser.add_argument("--scope", metavar="NAME", help="the scope of pg, an atom; else pg")
    parser.add_argument("--pg2", action="store_true", help="ask pg2 (OTP 23 and older, and erlmesh) instead of pg")
    add_node_options(parser, client=True)


def run(options: argparse.Namespace) -> int:
    if options.pg2 and options.scope is not None:
        raise ValueError("pg2 has no scopes: omit --scope or --pg2")
    scope = None if options.pg2 else Atom(parse_atom(options.scope or "pg"))
    return asyncio.run(_run(options, _Question(parse_group(options.group), scope)))


async def _run(options: argparse.Namespace, question: _Question) -> int:
    async with hidden_client(options, options.on) as (node, peer):
        members = await _ask(node, peer, question)
        hint = None if members else await _other_spelling(node, peer, question)
        if members is None and hint is None:
            raise ErlmeshError(f"{peer} has no pg2 group {format_elixir(question.group)}")
        blocked = await _blocked_peers(node, peer)
    if not members:
        hint = hint or f"the group {format_elixir(question.group)} has no members on {peer}{question.other_service}"
        print_error(hint)
    for pid in members or ():
        seconds = blocked.get(pid.node.name)
        name = printable_sentence(pid.node.name)  # one line for each member, whatever the node calls itself
        print(f"{name} <0.{pid.id}.{pid.serial}>" + (f"  blocked for {seconds:.0f} s" if seconds else ""))
    return 0 if members else 1


async def _ask(node: Node, peer: str, question: _Question) -> list[Pid] | None:
    """The members; None if pg2 has no such group. Raises ErlmeshError."""
    answer = await node.call((Atom("rex"), Atom(peer)), question.request)
    match answer:
        case list() if all(isinstance(pid, Pid) for pid in answer):
            return answer
        case (Atom("error"), (Atom("no_such_group"), _)):
            return None
        case (Atom("badrpc"), (Atom("EXIT"), (Atom("undef"), *_))):
            hint = (
                ": OTP 24 removed it. Omit --pg2" if question.scope is None else ": it is older than OTP 23. Add --pg2"
            )
            raise ErlmeshError(f"{peer} has no {question.module}{hint}")
        case (Atom("badrpc"), (Atom("EXIT"), (Atom("badarg"), *_))) if question.scope is not None:
            scope = format_argument(question.scope)
            start = f":pg.start_link({'' if scope == ':pg' else scope})"
            raise ErlmeshError(f"{peer} does not run the scope {question.scope} of pg: on that node, type  {start}")
    raise ErlmeshError(f"{peer} answers {format_elixir(answer)}")


async def _other_spelling(node: Node, peer: str, question: _Question) -> str | None:
    """A group without members may be the atom instead of the binary, or the reverse: what to type in that case."""
    for group, typed, kind in _spellings(question.group):
        members = await _ask(node, peer, _Question(group, question.scope))
        if members:
            return (
                f"the group {format_elixir(question.group)} has no members, but the {kind} {format_elixir(group)} has "
                f"{len(members)}. Type\n    erlmesh members {shlex.quote(typed)} --on {peer}{question.options}"
            )
    return None


def _spellings(group: Term) -> list[tuple[Term, str, str]]:
    """The same text as the other type: the group, how to type it, and the name of its type."""
    if isinstance(group, Atom):
        return [(group.name.encode(), format_argument(group.name), "binary")]
    try:
        text = group.decode() if isinstance(group, bytes) else ""
        # In Elixir the atom of a module, such as Phoenix.PubSub, starts with "Elixir.".
        names = [Atom(text), *([Atom(f"Elixir.{text}")] if text[:1].isupper() else [])] if text else []
    except ValueError:
        return []  # not UTF-8, or too long for an atom
    return [(name, format_argument(name), "atom") for name in names]


async def _blocked_peers(node: Node, peer: str) -> dict[str, float]:
    """The nodes with a blocked event loop, as ``peer`` reports, with seconds. Empty if ``peer`` is a BEAM."""
    request: Term = (Atom("call"), Atom("erlmesh"), Atom("blocked_peers"), [], Atom("user"))
    return parse_blocked_peers(await node.call((Atom("rex"), Atom(peer)), request))
