"""The text that ``i`` prints about a value: a process of any node, a node, or anything else."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from erlmesh.core.cluster_view.texts import plain_text
from erlmesh.errors import CallError
from erlmesh.shell.display import format_term, format_value
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["describe"]

ASK_TIMEOUT: Final = 5.0
"""Seconds for a question to another node."""
MAX_LISTED: Final = 10
"""Groups and links that are listed."""
_ITEMS: Final[list[Term]] = [
    Atom(item)
    for item in ("registered_name", "current_function", "initial_call", "status", "message_queue_len", "links",
                 "memory", "trap_exit")
]  # fmt: skip


async def describe(node: Node, thing: Any) -> str:
    """Return the text of ``i(thing)``. For a pid of another node, that node is asked. It is not connected to."""
    rows = [("term", format_value(thing)), ("type", type(thing).__qualname__)]
    if isinstance(thing, Pid):
        rows.append(("node", f"{format_term(thing.node)} ({_connection_status(node, thing.node)})"))
        rows += _local_rows(node, thing) if thing.node is node.internals.atom else await _remote_rows(node, thing)
        rows.append(("groups", _groups(node, thing)))
    elif isinstance(thing, Atom) and "@" in thing.name:
        rows.append(("node", _connection_status(node, thing)))
    return "\n".join(f"{label:<12} {text}" for label, text in rows)


def _connection_status(node: Node, name: Atom) -> str:
    if name is node.internals.atom:
        return "this node"
    if name.name in node.nodes():
        return "connected"
    return "connected, hidden" if name.name in node.nodes(hidden=True) else "not connected"


def _local_rows(node: Node, pid: Pid) -> list[tuple[str, str]]:
    process = node.internals.local_process(pid)
    if process is None:
        return [("alive", "no")]
    rows = [
        ("alive", "yes"),
        ("runs", plain_text(process.label.partition(" ")[2])),
        ("messages", f"{len(process._mailbox)} waiting"),
        ("traps exits", "yes" if process.trap_exit else "no"),
    ]
    if process._names:
        rows.append(("registered", ", ".join(map(format_term, process._names))))
    links = node.internals.state.links.links_of(pid)
    if links:
        rows.append(("links", _listed(list(links))))
    return rows


async def _remote_rows(node: Node, pid: Pid) -> list[tuple[str, str]]:
    if not node.internals.is_connected(pid.node):
        return [("alive", "not known: its node is not connected")]
    try:
        found = await node.rpc(pid.node, "erlang", "process_info", [pid, _ITEMS], timeout=ASK_TIMEOUT)
    except CallError as error:
        return [("alive", f"not known: {plain_text(str(error))}")]
    if not isinstance(found, list):
        return [("alive", "no")]
    items = {each[0].name: each[1] for each in found if isinstance(each, tuple) and isinstance(each[0], Atom)}
    rows = [
        ("alive", f"yes, {_text(items.get('status'))}"),
        ("runs", _function(items.get("initial_call"))),
        ("waits in", _function(items.get("current_function"))),
        ("messages", f"{_text(items.get('message_queue_len'))} waiting"),
        ("memory", f"{_text(items.get('memory'))} bytes"),
        ("traps exits", "yes" if items.get("trap_exit") is True else "no"),
    ]
    if isinstance(name := items.get("registered_name"), Atom):
        rows.append(("registered", format_term(name)))
    if isinstance(links := items.get("links"), list) and links:
        rows.append(("links", _listed(links)))
    return rows


def _groups(node: Node, pid: Pid) -> str:
    found = [("pg", group) for group in node.pg.which_groups() if pid in node.pg.get_members(group)]
    found += [("pg2", group) for group in node.pg2.which_groups() if pid in node.pg2.get_members(group)]
    shown = ", ".join(f"{kind} {format_term(group)}" for kind, group in islice(found, MAX_LISTED))
    return (shown or "none") + _more(len(found))


def _listed(terms: list[Term]) -> str:
    return ", ".join(plain_text(format_term(each)) for each in terms[:MAX_LISTED]) + _more(len(terms))


def _more(count: int) -> str:
    return f" and {count - MAX_LISTED} more" if count > MAX_LISTED else ""


def _function(mfa: Term) -> str:
    match mfa:
        case (Atom() as module, Atom() as function, int() as arity):
            return plain_text(f"{format_term(module)}.{function.name}/{arity}")
    return _text(mfa)


def _text(term: Term) -> str:
    return plain_text(term.name if isinstance(term, Atom) else format_term(term))
