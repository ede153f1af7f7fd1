"""Makes the entries that a Tracker adds: terms as the other nodes see them, and the ``phx_ref``."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, TypeAlias

from erlmesh.core.phash2 import phash2
from erlmesh.core.phoenix_pubsub.names import topic_bytes
from erlmesh.core.phoenix_tracker.entries import Entry
from erlmesh.etf import decode, encode
from erlmesh.node import Process
from erlmesh.terms import Atom, Map, Pid, Term
from erlmesh.typed import to_term

__all__ = ["EntryMaker", "Meta", "pid_of", "wire_term"]

Meta: TypeAlias = "Mapping[Any, Any]"
PHX_REF, PHX_REF_PREV = Atom("phx_ref"), Atom("phx_ref_prev")


class EntryMaker:
    """Makes the entries of the node ``own``."""

    def __init__(self, own: Atom, *, any_key: bool) -> None:
        self._own = phash2(own, 1 << 16)
        self._any_key = any_key
        self._count = 0

    def entry(self, process: Pid | Process, topic: str | bytes, key: object, meta: Meta) -> Entry:
        """Return an entry without a ``phx_ref``. Raises as :meth:`Tracker.track`."""
        term = wire_term(key)
        if not self._any_key and not _is_showable(term):
            raise ValueError(
                f"Phoenix.Presence cannot show the key {key!r}: use a text, an atom or a number, or any_key=True"
            )
        return Entry(pid_of(process), topic_bytes(topic), term, _map(meta))

    def with_ref(self, entry: Entry, before: Entry | None = None) -> Entry:
        """Return the entry with a new ``phx_ref``, and with that of ``before``, which it replaces."""
        self._count += 1
        number = time.time_ns() << 32 | self._own << 16 | self._count & 0xFFFF
        kept = [(key, value) for key, value in entry.meta.items() if key not in (PHX_REF, PHX_REF_PREV)]
        kept.append((PHX_REF, urlsafe_b64encode(number.to_bytes(12, "big"))))
        if before is not None:
            kept.append((PHX_REF_PREV, before.meta[PHX_REF]))
        return entry._replace(meta=Map(kept))

    def replaced(self, entry: Entry, meta: Meta) -> Entry:
        """Return the entry with another meta and a new ``phx_ref``."""
        return self.with_ref(entry._replace(meta=_map(meta)), entry)


def pid_of(process: Pid | Process) -> Pid:
    """The pid of a process. Raises TypeError for another value."""
    pid = process.pid if isinstance(process, Process) else process
    if not isinstance(pid, Pid):
        raise TypeError(f"a pid or a process is needed, not {process!r}")
    return pid


def wire_term(value: object) -> Term:
    """The value as other nodes get it: a str is a binary, a dict a map. Raises EncodeError."""
    return decode(encode(to_term(value)))


def _map(meta: Meta) -> Map:
    term = wire_term(meta)
    if not isinstance(term, Map):
        raise TypeError(f"the meta of a presence is a map, not {meta!r}")
    return term


def _is_showable(key: Term) -> bool:
    """True for a key that Elixir's ``to_string`` takes, and that can be JSON."""
    if isinstance(key, bytes):
        try:
            key.decode()
        except UnicodeDecodeError:
            return False
        return True
    return isinstance(key, Atom | int | float)
