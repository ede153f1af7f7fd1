"""The messages between the workers of a PubSub.

``{forward_to_local, Topic, Message, Dispatcher}`` (``phoenix_pubsub: lib/phoenix/pubsub/pg2.ex``). The receiver hands
``Message`` to its subscribers of ``Topic``, through the module ``Dispatcher``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from erlmesh.records import record
from erlmesh.terms import Atom, Map, Term
from erlmesh.typed import to_term

__all__ = ["PubSubStatistics", "broadcast_term", "forward", "parse_forward"]

FORWARD: Final = Atom("forward_to_local")
STRUCT: Final = Atom("__struct__")
BROADCAST: Final = Atom("Elixir.Phoenix.Socket.Broadcast")
TOPIC, EVENT, PAYLOAD = Atom("topic"), Atom("event"), Atom("payload")


@record
class PubSubStatistics:
    """What a PubSub has done since its start."""

    sent: int = 0
    """Messages to workers of other nodes."""
    received: int = 0
    """Messages of other nodes for a topic."""
    unmatched: int = 0
    """Those of them whose topic has no subscriber here. A member gets the messages of all topics."""
    malformed: int = 0
    """Messages to the worker that no PubSub sends. They are ignored."""
    dropped: int = 0
    """Messages that a full subscription has dropped."""
    unconverted: int = 0
    """Messages that did not fit the type of their subscription."""


def forward(topic: bytes, message: Term, dispatcher: Atom) -> Term:
    """Return the message to a worker."""
    return (FORWARD, topic, message, dispatcher)


def parse_forward(message: Term) -> tuple[bytes, Term] | None:
    """Read a message to a worker: its topic and its content. None if it has another form.

    The dispatcher is a module that only Elixir nodes have. So every message is delivered as it is.
    """
    if type(message) is not tuple or len(message) != 4 or message[0] is not FORWARD:
        return None
    _, topic, content, dispatcher = message
    return (topic, content) if type(topic) is bytes and type(dispatcher) is Atom else None


def broadcast_term(topic: bytes, event: str, payload: object, keys: Literal["strings", "atoms"]) -> Map:
    """Return the struct ``Phoenix.Socket.Broadcast`` (``phoenix: lib/phoenix/socket/message.ex``).

    With ``keys="atoms"``, keys of ``payload`` that are a ``str`` become atoms, also in the dicts and lists in it.
    Raises TypeError for a payload that is not a dict, ValueError for other ``keys``, and EncodeError.
    """
    if keys not in ("strings", "atoms"):
        raise ValueError(f"keys is 'strings' or 'atoms', not {keys!r}")
    term = to_term(_with_atom_keys(payload) if keys == "atoms" else payload)
    if not isinstance(term, Map):
        raise TypeError(f"the payload of an event is a dict, not {payload!r}")
    return Map([(STRUCT, BROADCAST), (TOPIC, topic), (EVENT, event.encode()), (PAYLOAD, term)])


def _with_atom_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {Atom(key) if type(key) is str else key: _with_atom_keys(item) for key, item in value.items()}
    if type(value) is list:
        return [_with_atom_keys(item) for item in value]
    return value
