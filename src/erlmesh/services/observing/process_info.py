"""``erlang:process_info/1,2`` of a local process: the items, as far as a process of Python has them.

What it has not is given as for an idle process of Erlang: its dictionary and its messages are empty, its reductions 0.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Final

from erlmesh.services.observing.process_view import current_function, initial_call, memory, name, stack_trace
from erlmesh.terms import Atom, Map, Pid, Term

if TYPE_CHECKING:
    from erlmesh.runtime.node_state import NodeState
    from erlmesh.runtime.process import LocalProcess

__all__ = ["DEFAULT_ITEMS", "ProcessInfo"]

WORD_BYTES: Final = 8
RELATIONS: Final = 1000
"""Links and monitors of one process that are listed."""

UNDEFINED: Final = Atom("undefined")
REGISTERED_NAME: Final = Atom("registered_name")
DICTIONARY: Final = Atom("dictionary")
DEFAULT_ITEMS: Final = [
    Atom(item)
    for item in [
        "registered_name",
        "current_function",
        "initial_call",
        "status",
        "message_queue_len",
        "links",
        "dictionary",
        "trap_exit",
        "error_handler",
        "priority",
        "group_leader",
        "total_heap_size",
        "heap_size",
        "stack_size",
        "reductions",
        "garbage_collection",
        "suspending",
    ]
]
"""The items of ``process_info/1``, in its order."""
_GARBAGE_COLLECTION: Final = [
    (Atom("max_heap_size"), Map([(Atom("size"), 0), (Atom("kill"), True), (Atom("error_logger"), True)])),
    (Atom("min_bin_vheap_size"), 46422),
    (Atom("min_heap_size"), 233),
    (Atom("fullsweep_after"), 65535),
    (Atom("minor_gcs"), 0),
]
"""The values of a BEAM without options. Python collects the garbage of all processes together."""


class ProcessInfo:
    """The items of the processes of one node. ``group_leader`` is that of processes that have none of their own."""

    def __init__(self, state: NodeState, group_leader: Callable[[], Pid]) -> None:
        self._state = state
        self._group_leader = group_leader
        self._items: dict[str, Callable[[LocalProcess], Term]] = {
            "binary": _nothing,
            "catchlevel": _zero,
            "current_function": current_function,
            "current_location": lambda process: (*current_function(process), []),
            "current_stacktrace": stack_trace,
            "dictionary": _nothing,
            "error_handler": lambda _: Atom("error_handler"),
            "garbage_collection": lambda _: _GARBAGE_COLLECTION,
            "garbage_collection_info": _nothing,
            "group_leader": lambda process: process.group_leader or self._group_leader(),
            "heap_size": _heap_words,
            "initial_call": initial_call,
            "label": lambda _: UNDEFINED,
            "last_calls": lambda _: False,
            "links": self._links,
            "memory": memory,
            "message_queue_data": lambda _: Atom("on_heap"),
            "message_queue_len": lambda process: len(process._mailbox),
            "messages": _nothing,
            "min_bin_vheap_size": lambda _: 46422,
            "min_heap_size": lambda _: 233,
            "monitored_by": self._monitored_by,
            "monitors": self._monitors,
            "parent": lambda process: process._parent or UNDEFINED,
            "priority": lambda _: Atom("normal"),
            "reductions": _zero,
            "registered_name": lambda process: name(process) or [],
            "sequential_trace_token": _nothing,
            "stack_size": _zero,
            "status": _status,
            "suspending": _nothing,
            "total_heap_size": _heap_words,
            "trace": _zero,
            "trap_exit": lambda process: process.trap_exit,
        }

    def has(self, item: Term) -> bool:
        """Whether ``item`` is one that a process can be asked for: a known atom, or ``{dictionary, Key}``."""
        return (isinstance(item, Atom) and item.name in self._items) or _is_dictionary_key(item)

    def item(self, process: LocalProcess, item: Term) -> Term:
        """``{Item, Value}``. The item must be one that :meth:`has` knows."""
        if not isinstance(item, Atom):
            return (item, UNDEFINED)
        return (item, self._items[item.name](process))

    def all_items(self, process: LocalProcess) -> list[Term]:
        """The items of ``process_info/1``. A process without a registered name has no such item there."""
        return [self.item(process, item) for item in DEFAULT_ITEMS if item is not REGISTERED_NAME or process._names]

    def _links(self, process: LocalProcess) -> list[Term]:
        return list(self._state.links.links_of(process.pid)[:RELATIONS])

    def _monitors(self, process: LocalProcess) -> list[Term]:
        targets = self._state.monitors.targets_of(process.pid)
        return [(Atom("process"), entry.down_object()) for entry in islice(targets, RELATIONS)]

    def _monitored_by(self, process: LocalProcess) -> list[Term]:
        return list(islice(self._state.monitors.origins_of(process.pid), RELATIONS))


def _is_dictionary_key(item: Term) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and item[0] is DICTIONARY


def _zero(_process: LocalProcess) -> Term:
    return 0


def _nothing(_process: LocalProcess) -> Term:
    return []


def _heap_words(process: LocalProcess) -> Term:
    return memory(process) // WORD_BYTES


def _status(process: LocalProcess) -> Term:
    from erlmesh.runtime.running_process import RUNNING  # noqa: PLC0415

    if process._suspended:
        return Atom("suspended")
    return Atom("running" if RUNNING.get() is process else "waiting")
