"""Print the members of a process group, as a node of the cluster sees them."""

from __future__ import annotations

import argparse
import asyncio
import re

from erlmesh import Atom, ErlmeshError, Pid, Term
from erlmesh.cli.connecting import blocked_peers, hidden_client
from erlmesh.cli.settings import add_node_options
from erlmesh.formatting import format_elixir

__all__ = ["EXAMPLE", "add_options", "parse_group_name", "run"]

EXAMPLE = """\
example:
  erlmesh members group --on plato@127.0.0.1
  socrates@127.0.0.1 <0.114.0>
  plato@127.0.0.1 <0.64.0>

GROUP is an atom (group or :group), a "string" or a number. One line for each time a process joined; "busy for 5 s"
behind it if code holds the event loop of its node (erlmesh's), which then answers nothing. The exit code is 1 if there
are no members."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP", help="the group's name")
    parser.add_argument("--on", metavar="NODE", required=True, help="the node to ask")
    parser.add_argument("--pg2", action="store_true", help="a group of pg2, not of pg")
    add_node_options(parser, client=True)


def run(options: argparse.Namespace) -> int:
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    group, module = parse_group_name(options.group), Atom("pg2" if options.pg2 else "pg")
    async with hidden_client(options, options.on) as (node, peer):
        request = (Atom("call"), module, Atom("get_members"), [group], Atom("user"))
        members = _parse_members(await node.call((Atom("rex"), Atom(peer)), request), peer, module.name)
        busy = await blocked_peers(node, peer)
    for pid in members:
        seconds = busy.get(pid.node.name)
        print(f"{pid.node.name} <0.{pid.id}.{pid.serial}>" + (f"  busy for {seconds:.0f} s" if seconds else ""))
    return 0 if members else 1


def _parse_members(answer: Term, peer: str, module: str) -> list[Pid]:
    match answer:
        case list() if all(isinstance(pid, Pid) for pid in answer):
            return answer
        case (Atom("error"), (Atom("no_such_group"), group)):
            raise ErlmeshError(f"{peer} knows no pg2 group {format_elixir(group)}")
        case (Atom("badrpc"), (Atom("EXIT"), (Atom("undef"), *_))):
            raise ErlmeshError(f"{peer} has no {module}" + (" (OTP has removed it in 24)" if module == "pg2" else ""))
        case (Atom("badrpc"), (Atom("EXIT"), (Atom("badarg"), *_))) if module == "pg":
            raise ErlmeshError(f"pg is not started on {peer}; there, type  :pg.start_link()")
    raise ErlmeshError(f"{peer} answers {format_elixir(answer)}")


def parse_group_name(text: str) -> Term:
    """The term that ``text`` names: ``:atom``, ``atom``, ``"string"`` or an integer."""
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if re.fullmatch(r'".*"', text, re.DOTALL) and len(text) > 1:
        return text[1:-1].encode()
    name = text.removeprefix(":")
    if re.fullmatch(r'".*"|\'.*\'', name, re.DOTALL) and len(name) > 1:
        name = name[1:-1]
    if not name:
        raise ValueError("a group needs a name")
    return Atom(name)
