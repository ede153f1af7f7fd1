"""The tables that ``nodes``, ``groups`` and ``pids`` print. Each is a list of terms, and prints as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from erlmesh.core.cluster_view.texts import plain_text
from erlmesh.formatting import format_elixir
from erlmesh.runtime.link_states import LinkState, link_states
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.node import Node
    from erlmesh.runtime.process import LocalProcess

__all__ = ["Table", "group_table", "node_table", "process_table", "text_table"]

MAX_ROWS: Final = 50
"""Rows that are printed. The list has all."""
MAX_CELL: Final = 48
"""Characters of a cell."""


class Table(list[Any]):
    """A list that the shell prints as a table. ``rows`` are printed, and ``footer`` below them."""

    def __init__(
        self, values: Iterable[Any], header: Sequence[str], rows: Sequence[Sequence[str]], footer: str
    ) -> None:
        super().__init__(values)
        self.header = header
        self.rows = rows
        self.footer = footer

    def text(self) -> str:
        """Return what the shell prints."""
        lines = text_table(self.header, self.rows) if self.rows else []
        hidden = len(self) - len(self.rows)
        if hidden > 0 and self.rows:
            lines.append(f"… and {hidden} more")
        return "\n".join([*lines, self.footer] if self.footer else lines)


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return lines with aligned columns. Long cells are cut. A column aligns right if its header begins with ">"."""
    cells = [[_cut(cell) for cell in row] for row in rows]
    titles = [title.removeprefix(">") for title in header]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    right = [title.startswith(">") for title in header]
    return [
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in (titles, *cells)
    ]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"


def node_table(node: Node) -> Table:
    """The connected visible nodes, in order of connection."""
    states = link_states(node.internals._instance, node.internals.now())
    names = list(node.nodes())
    blocked = node.blocked_peers()
    rows = [_node_row(name, states.get(name), blocked.get(name)) for name in names[:MAX_ROWS]]
    hidden, lost = len(node.nodes(hidden=True)), node.reconnecting()
    footer = [] if names else ['no nodes yet: Node.ping(:"plato@10.0.0.3") connects one']
    footer += [f"and {hidden} hidden: Node.list(:hidden)"] if hidden else []
    footer += [f"lost, and dialled again: {', '.join(plain_text(name) for name in islice(lost, 5))}"] if lost else []
    return Table(map(Atom, names), ("node", ">silent", ">waiting", "state"), rows, "\n".join(footer))


def _node_row(name: str, state: LinkState | None, blocked: float | None) -> Sequence[str]:
    silent = "" if state is None or state.silent is None else f"{state.silent:.0f} s"
    queued = "" if state is None or state.queued is None else f"{state.queued} B"
    text = "up" if state is None else state.state
    if blocked is not None:
        text += f", its event loop is blocked for {blocked:.0f} s"
    elif state is not None and state.suspended:
        text += ", it does not read"
    return (plain_text(name), silent, queued, text)


def group_table(node: Node) -> Table:
    """The groups of pg (the default scope) and of pg2: ``{:pg, group, [pid]}``."""
    found: list[tuple[Atom, Term, list[Pid]]] = []
    for service, groups, members in (
        (Atom("pg"), node.pg.which_groups(), node.pg.get_members),
        (Atom("pg2"), node.pg2.which_groups(), node.pg2.get_members),
    ):
        found += [(service, group, members(group)) for group in groups]
    rows = [
        (service.name, plain_text(format_elixir(group)), str(len(pids)), _by_node(pids), _pids(pids))
        for service, group, pids in found[:MAX_ROWS]
    ]
    footer = "" if found else "no groups yet: pg.join(:group, self) creates one"
    return Table(found, ("kind", "group", ">members", "nodes", "processes"), rows, footer)


def _by_node(pids: list[Pid]) -> str:
    counts = Counter(pid.node.name.partition("@")[0] for pid in pids)
    return ", ".join(f"{plain_text(name)} {count}" for name, count in islice(counts.items(), 6))


def _pids(pids: list[Pid]) -> str:
    shown = [format_elixir(pid) for pid in pids[:3]]
    return ", ".join(shown) + (", …" if len(pids) > len(shown) else "")


def process_table(node: Node) -> Table:
    """The processes of this node, oldest first."""
    pids = node.internals.processes()
    rows = [_process_row(process) for process in map(node.internals.local_process, pids[:MAX_ROWS]) if process]
    return Table(pids, ("pid", "name", "runs", ">messages", "waits in"), rows, "")


def _process_row(process: LocalProcess) -> Sequence[str]:
    from erlmesh.services.observing import process_view  # noqa: PLC0415 - for tools only

    name = process_view.name(process)
    body, waits = process_view.initial_call(process), process_view.current_function(process)
    return (
        format_elixir(process.pid),
        "" if name is None else plain_text(format_elixir(name)),
        _function(body),
        str(len(process._mailbox)),
        "" if waits == body else _function(waits),
    )


def _function(mfa: tuple[Atom, Atom, int]) -> str:
    module, function, _ = mfa
    return plain_text(f"{module.name.rpartition('.')[2]}.{function.name}")
