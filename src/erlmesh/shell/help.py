"""The texts that ``h`` and ``i`` print."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any, Final

from erlmesh.shell.commands import Module, commands_of

__all__ = ["documentation", "overview"]

OVERVIEW: Final = """\
This shell runs Python in a process of this node. It also accepts simple lines of Elixir.

  self                         this shell's pid               Node.self   this node's name
  Node.ping :"plato@10.0.0.3"  connect: :pong or :pang        Node.list   the connected nodes
  pg.join(:group, self)        join a group                   pg.get_members(:group)
  :pg2.create(:group)          the same with the older pg2    :pg2.join(:group, self)
  send(pid, {:hello, self})    send a message to a process    receive()   flush   read the mailbox
  spawn(f)  monitor(pid)  exit(pid, :kill)                    start, monitor, end processes
  global_.register_name(:x, self)  global_.whereis_name(:x)   names registered on all nodes
  GenServer.call(:name, :request)  :erpc.call(node, :lists, :sum, [[1, 2]])       ask processes and nodes
  nodes  groups  pids  i(pid)  observe  v(3)  _               tables, one process, a web page; earlier results
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
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
        if not parameter.name.startswith("_")
    ]
    return str(inspect.Signature(bare))
