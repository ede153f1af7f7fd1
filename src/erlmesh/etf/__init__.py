"""The external term format (erts, "External Term Format"): terms to bytes and back.

For a standalone term (a file, a test, ``term_to_binary``)::

    encode(term) -> bytes                    byte 131 and the term
    decode(data) -> term                     ignores bytes after the term, as binary_to_term does

For a term inside a distribution frame, where an atom may be a reference to the frame's header::

    encode_term(term, atoms) -> bytes        without byte 131; an atom that atoms.get() knows becomes a reference
    encode_into(term, pieces, atoms)         the same, appended to a list; binaries are not copied
    decode_term(data, offset, atoms) -> (term, offset after the term)

Any bytes give a term or raise :class:`~erlmesh.errors.DecodeError`. Any value gives bytes or raises
:class:`~erlmesh.errors.EncodeError`. A deep term cannot overflow the stack, and a false element count cannot allocate
memory.
"""

from __future__ import annotations

from erlmesh.etf.decode import decode, decode_term
from erlmesh.etf.encode import EncodedTerm, encode, encode_into, encode_term

__all__ = ["EncodedTerm", "backend", "decode", "decode_term", "encode", "encode_into", "encode_term"]

backend = "python"
"""The implementation behind these four functions: ``python`` or ``native``."""
