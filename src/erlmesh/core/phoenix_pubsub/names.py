"""The names of a Phoenix.PubSub: its adapter, the groups of its workers, topics and dispatchers.

A PubSub ``N`` has the adapter atom ``N.Adapter`` (``phoenix_pubsub: lib/phoenix/pubsub/supervisor.ex``). Each of its
workers is registered under the name of a group, and is in that group of the pg scope ``Phoenix.PubSub``. The names for
a pool of ``n`` workers (``lib/phoenix/pubsub/pg2.ex``)::

    2.0                 Adapter
    2.1.0               Adapter_1 … Adapter_n
    2.1.1 and later     Adapter, Adapter_2 … Adapter_n
"""

from __future__ import annotations

from typing import Final

from erlmesh.terms import Atom

__all__ = [
    "CHANNEL_DISPATCHER",
    "MAX_POOL_SIZE",
    "PLAIN_DISPATCHER",
    "SCOPE",
    "adapter_atom",
    "checked_dispatcher",
    "pubsub_atom",
    "topic_bytes",
    "worker_number",
]

SCOPE: Final = Atom("Elixir.Phoenix.PubSub")
"""The pg scope of all PubSubs."""
PLAIN_DISPATCHER: Final = Atom("Elixir.Phoenix.PubSub")
"""Sends the message itself to each subscriber."""
CHANNEL_DISPATCHER: Final = Atom("Elixir.Phoenix.Channel.Server")
"""Serializes a ``Phoenix.Socket.Broadcast`` for channels. Other subscribers get it as a message."""
MAX_POOL_SIZE: Final = 1024
"""Workers with a greater number are ignored. A pool has about one worker for each core."""


def pubsub_atom(name: str | Atom) -> Atom:
    """Return the atom of a PubSub. ``"MyApp.PubSub"`` and ``"Elixir.MyApp.PubSub"`` are the same module.

    A text whose first letter is not a capital is a plain atom, as ``:my_pubsub``. An Atom stays as it is, so
    ``Atom("MyApp.PubSub")`` is Elixir's ``:"MyApp.PubSub"``. Raises ValueError for an empty name, and TypeError.
    """
    if isinstance(name, Atom):
        return name
    if not isinstance(name, str):
        raise TypeError(f"the name of a PubSub is a str or an Atom, as 'MyApp.PubSub', not {name!r}")
    text = name.removeprefix(":")
    if not text:
        raise ValueError("the name of a PubSub is empty: give the name that the Elixir application has, 'MyApp.PubSub'")
    return Atom(f"Elixir.{text}" if text[0].isupper() and not text.startswith("Elixir.") else text)


def adapter_atom(pubsub: Atom) -> Atom:
    """Return the name of the adapter, as Elixir's ``Module.concat(pubsub, "Adapter")``."""
    return Atom(f"Elixir.{pubsub.name.removeprefix('Elixir.')}.Adapter")


def worker_number(adapter: Atom, group: object) -> int | None:
    """Return which worker of the pool has the group: 1 for ``Adapter``, n for ``Adapter_n``. None for another group."""
    if group is adapter:
        return 1
    if type(group) is not Atom or not group.name.startswith(adapter.name + "_"):
        return None
    digits = group.name[len(adapter.name) + 1 :]
    if not (digits.isascii() and digits.isdecimal()) or digits[0] == "0" or len(digits) > 4:
        return None
    return int(digits) if int(digits) <= MAX_POOL_SIZE else None


def topic_bytes(topic: str | bytes) -> bytes:
    """Return a topic as it is on the wire. Raises TypeError for another type."""
    if isinstance(topic, str):
        return topic.encode()
    if isinstance(topic, bytes):
        return topic
    raise TypeError(f"a topic is a str, as 'room:1', not {topic!r}")


def checked_dispatcher(dispatcher: str | Atom, *, allowed: bool = False) -> Atom:
    """Return the atom of a dispatcher: ``"Phoenix.PubSub"`` is ``Elixir.Phoenix.PubSub``.

    A worker calls the dispatcher. If that module is not loaded, the worker ends, on every node with a subscriber. So
    only the two that come with Phoenix are accepted, unless ``allowed``. Raises ValueError.
    """
    atom = pubsub_atom(dispatcher)
    if atom in (PLAIN_DISPATCHER, CHANNEL_DISPATCHER) or allowed:
        return atom
    raise ValueError(
        f"the dispatcher {atom.name} does not come with Phoenix: where it is not loaded, the PubSub of that node ends. "
        "Pass allow_dispatcher=True if each node has it"
    )
