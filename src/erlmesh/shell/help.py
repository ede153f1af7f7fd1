"""The texts that ``h`` and ``i`` print."""

from __future__ import annotations

import inspect
import textwrap
from typing import TYPE_CHECKING, Any, Final

from erlmesh.shell.commands import Module, commands_of
from erlmesh.shell.display import format_term, format_value
from erlmesh.terms import Atom, Pid

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["describe", "documentation", "overview"]

OVERVIEW: Final = """\
This shell runs Python in a process of this node. It also accepts simple lines of Elixir.

  self                         this shell's pid               Node.self   this node's name
  Node.ping :"plato@10.0.0.3"  connect: :pong or :pang        Node.list   the connected nodes
  pg.join(:group, self)        join a group                   pg.get_members(:group)
  :pg2.create(:group)          the same with the older pg2    :pg2.join(:group, self)
  send(pid, {:hello, self})    send a message to a process    receive()   flush   read the mailbox
  spawn(f)  monitor(pid)  exit(pid, :kill)                    start, monitor, end processes
  global_.register_name(:x, self)  global_.whereis_name(:x)   names registered on all nodes
  groups  nodes  pids  i(pid)  v(3)  _                        inspect; earlier results
  :group is Atom("group"), {:ok, 1} is (Atom("ok"), 1), #PID<0.64.0> is pid("0.64.0")

  h(Node)  h(pg.join)  h(anything)   help about a thing       exit() or Ctrl-D leaves the shell"""


def overview() -> str:
    """Return the text of ``h()``."""
    return OVERVIEW


def documentation(thing: Any) -> str:
    """Return the text of ``h(thing)``: its signature and documentation."""
    if isinstance(thing, Module):
        return _module_documentation(thing)
    name = getattr(thing, "__qualname__", None) or type(thing).__qualname__
    text = inspect.getdoc(thing) or "no documentation"
    return f"{_display_name(name)}{_signature(thing)}\n{textwrap.indent(text, '    ')}"


def _module_documentation(module: Module) -> str:
    lines = [inspect.getdoc(module) or ""]
    for name, function in commands_of(module).items():
        first = (inspect.getdoc(function) or "").partition("\n")[0]
        lines.append(f"  {name + _signature(function, types=False):<34} {first}")
    return "\n".join(lines)


def _display_name(name: str) -> str:
    owner, _, last = name.rpartition(".")
    return last if owner == "Builtins" else f"{owner.removesuffix('Module')}.{last}".lstrip(".")


def _signature(thing: Any, *, types: bool = True) -> str:
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    if types:
        return str(signature)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(inspect.Signature(bare))


def describe(node: Node, thing: Any) -> str:
    """Return the text of ``i(thing)``."""
    rows = [("term", format_value(thing)), ("type", type(thing).__qualname__)]
    if isinstance(thing, Pid):
        rows += _process_rows(node, thing)
    elif isinstance(thing, Atom) and "@" in thing.name:
        rows.append(("node", _connection_status(node, thing)))
    return "\n".join(f"{label:<12} {text}" for label, text in rows)


def _connection_status(node: Node, name: Atom) -> str:
    if name is node.internals.atom:
        return "this node"
    if name.name in node.nodes():
        return "connected"
    return "connected, hidden" if name.name in node.nodes(hidden=True) else "not connected"


def _process_rows(node: Node, pid: Pid) -> list[tuple[str, str]]:
    rows = [("node", f"{format_term(pid.node)} ({_connection_status(node, pid.node)})")]
    if pid.node is node.internals.atom:
        process = node.internals.local_process(pid)
        if process is None:
            return [*rows, ("alive", "no")]
        rows.append(("alive", "yes"))
        rows.append(("runs", process.label.partition(" ")[2]))
        rows.append(("messages", f"{len(process._mailbox)} waiting"))
        rows.append(("traps exits", "yes" if process.trap_exit else "no"))
        if process._names:
            rows.append(("registered", ", ".join(map(format_term, process._names))))
    groups = [f"pg {format_term(group)}" for group in node.pg.which_groups() if pid in node.pg.get_members(group)]
    groups += [f"pg2 {format_term(group)}" for group in node.pg2.which_groups() if pid in node.pg2.get_members(group)]
    return [*rows, ("groups", ", ".join(groups) or "none")]
