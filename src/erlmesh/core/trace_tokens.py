"""The trace token of a signal, which ``seq_trace`` of Erlang sends, and the context of a trace in it. No I/O.

A token is ``{Flags, Label, Serial, From, Last}`` (``seq_trace(3)``). The label may be any term. A context is a list of
pairs of binaries, as ``otel_propagator_text_map:inject([])`` makes it in Erlang::

    {0, [{<<"traceparent">>, <<"00-…-01">>}], 0, Pid, 0}

A token of another form is a sequential trace without a context. Tokens come from other nodes, so nothing here raises,
and a context is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from erlmesh.core.gen import GEN_CALL, GEN_CAST
from erlmesh.terms import ImproperList, Pid, Ref, Term

__all__ = ["MAX_BYTES", "MAX_PAIRS", "call_ref", "context_of", "is_cast", "make_token", "reply_ref", "sequence_of"]

MAX_PAIRS: Final = 16
MAX_BYTES: Final = 8192
"""What a context may have. A larger one is ignored as a whole."""


def make_token(sender: Pid, context: Mapping[str, str]) -> Term:
    """Return the token that carries ``context`` from ``sender``. Instead of a too large context it carries none."""
    pairs: list[Term] = [(name.encode(), value.encode()) for name, value in context.items()]
    return (0, pairs if _is_small(pairs) else [], 0, sender, 0)


def context_of(token: Term) -> dict[str, str]:
    """Return the context in a token; empty if it has none. A label that is one binary is a ``traceparent``."""
    if not isinstance(token, tuple) or len(token) != 5:
        return {}
    label = token[1]
    if isinstance(label, bytes):
        label = [(b"traceparent", label)]
    if not isinstance(label, list) or not _is_small(label):
        return {}
    try:
        return {name.decode("ascii"): value.decode("ascii") for name, value in label}
    except UnicodeDecodeError:
        return {}


def sequence_of(token: Term) -> tuple[Term, int] | None:
    """Return the label and the serial number of a sequential trace; None for another term."""
    if not isinstance(token, tuple) or len(token) != 5:
        return None
    return (token[1], token[2]) if isinstance(token[2], int) else None


def call_ref(message: Term) -> Ref | None:
    """Return the reference of the call in a message: its reply goes there. None for another message."""
    if not isinstance(message, tuple) or len(message) != 3 or message[0] is not GEN_CALL:
        return None
    return reply_ref(message[1])


def is_cast(message: Term) -> bool:
    """Return whether a message is one of ``gen_server:cast``."""
    return type(message) is tuple and len(message) == 2 and message[0] is GEN_CAST


def reply_ref(caller: Term) -> Ref | None:
    """Return the reference of a call from its caller, ``{Pid, Tag}``. None for another term."""
    tag = caller[1] if isinstance(caller, tuple) and len(caller) == 2 else None
    if isinstance(tag, ImproperList):
        tag = tag.tail
    return tag if isinstance(tag, Ref) else None


def _is_small(pairs: list[Term]) -> bool:
    if len(pairs) > MAX_PAIRS:
        return False
    size = 0
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(each, bytes) for each in pair)):
            return False
        size += len(pair[0]) + len(pair[1])
    return size <= MAX_BYTES
