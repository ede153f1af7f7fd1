"""The external term format (erts, "External Term Format"): terms to bytes and back.

For a standalone term (a file, a test, ``term_to_binary``)::

    encode(term) -> bytes                    byte 131 and the term
    decode(data) -> term                     ignores bytes after the term, as binary_to_term does

For a term inside a distribution frame, where an atom may be a reference to the frame's header::

    encode_term(term, atoms) -> bytes        without byte 131; an atom that atoms.get() knows becomes a reference
    encode_into(term, pieces, atoms)         the same, appended to a list; binaries are not copied
    decode_term(data, offset, atoms) -> (term, offset after the term)

:func:`as_received` gives a term of this node the form that it has on another node.

Any bytes give a term or raise :class:`~erlmesh.errors.DecodeError`. Any value gives bytes or raises
:class:`~erlmesh.errors.EncodeError`. A deep term cannot overflow the stack, and a false element count cannot allocate
memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from erlmesh import native
from erlmesh.etf.decode import decode, decode_term
from erlmesh.etf.encode import EncodedTerm, encode, encode_into, encode_term
from erlmesh.terms import Atom, Pid, Ref, Term

if not TYPE_CHECKING and native.module is not None:
    # The same functions in Rust. They call those in Python for rare terms and for all errors.
    decode, decode_term = native.module.decode, native.module.decode_term
    encode, encode_into, encode_term = native.module.encode, native.module.encode_into, native.module.encode_term

__all__ = ["EncodedTerm", "as_received", "backend", "decode", "decode_term", "encode", "encode_into", "encode_term"]

backend: Final = "python" if native.module is None else "native"
"""The implementation behind these functions: ``python`` or ``native``."""

_SAME_EVERYWHERE: Final = frozenset({Atom, int, float, bool, bytes, Pid, Ref})


def as_received(term: Term) -> Term:
    """Return ``term`` as the process of another node would get it: a ``str`` as ``bytes``, a ``dict`` as a ``Map``.

    So calls, spawns and exits within one node have the results that they have between nodes. The result shares no list
    with ``term``. Raises EncodeError if ``term`` is not a term.
    """
    return term if type(term) in _SAME_EVERYWHERE else decode(encode(term))
