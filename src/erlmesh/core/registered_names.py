"""Which names a process can be registered under."""

from __future__ import annotations

from typing import Final

from erlmesh.terms import Atom

__all__ = ["require_registrable"]

UNDEFINED: Final = Atom("undefined")


def require_registrable(name: Atom) -> None:
    """Raise ValueError for ``undefined``, as ``erlang:register/2`` does: ``whereis/1`` returns it for a free name.

    OTP also refuses a second name for a process. A process here may have several names.
    """
    if name is UNDEFINED:
        raise ValueError("a process cannot be registered as undefined: in Erlang, that is the answer for a free name")
