"""The external term format: terms to bytes and back, through one door.

A term that stands alone (a file, a test, ``term_to_binary``)::

    encode(term) -> bytes                    131 and the term
    decode(data) -> term                     bytes after the term are ignored, as binary_to_term does

A term inside a distribution frame, where atoms may be references to the frame's header::

    encode_term(term, atoms) -> bytes        no 131; an atom that atoms.get() knows becomes its reference
    decode_term(data, offset, atoms) -> (term, offset after it)

Any bytes give a term or :class:`~erlmesh.errors.DecodeError`; any value gives bytes or
:class:`~erlmesh.errors.EncodeError`. Neither the depth of a term nor a count it claims can hurt.
"""

from __future__ import annotations

from erlmesh.etf.decode import decode, decode_term
from erlmesh.etf.encode import encode, encode_term

__all__ = ["backend", "decode", "decode_term", "encode", "encode_term"]

backend = "python"
"""Which implementation serves the door: ``python`` or ``native``."""
