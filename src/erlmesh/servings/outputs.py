"""The check of what the function of a serving returns."""

from __future__ import annotations

import logging
from typing import Any, Final

from erlmesh.errors import ErlangError
from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.terms import Atom

__all__ = ["checked_outputs"]

_peer_log = PeerLog(event_log("erlmesh.serving"))

BAD_OUTPUT: Final = Atom("bad_output")


def checked_outputs(outputs: Any, size: int, verb: str) -> list[Any]:
    """Return the outputs as a list of one for each input. Raises ErlangError in words."""
    try:
        found = list(outputs)
    except TypeError:
        found = []
    if isinstance(outputs, (str, bytes, dict)) or len(found) != size:
        what = f"{len(found)} outputs" if hasattr(outputs, "__len__") else type(outputs).__name__
        text = f"the function {verb} {what} for {size} inputs: it must give a list with one output for each"
        _peer_log.write(logging.ERROR, "serving_outputs_wrong", text, "%s", text)
        raise ErlangError((BAD_OUTPUT, text))
    return found
