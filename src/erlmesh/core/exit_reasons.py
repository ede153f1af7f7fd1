"""The exit reasons that OTP itself gives (erts, "Processes", section "Exit Signals")."""

from __future__ import annotations

from typing import Final

from erlmesh.terms import Atom

__all__ = ["KILL", "KILLED", "NOCONNECTION", "NOPROC", "NORMAL", "SHUTDOWN"]

NORMAL: Final = Atom("normal")
"""The process returned. A linked process ignores it."""
SHUTDOWN: Final = Atom("shutdown")
"""The node, or a supervisor, stops the process."""
KILL: Final = Atom("kill")
"""As the reason of an exit signal of ``exit/2``: it cannot be trapped."""
KILLED: Final = Atom("killed")
"""What links and monitors get after ``kill``."""
NOPROC: Final = Atom("noproc")
"""There is no such process."""
NOCONNECTION: Final = Atom("noconnection")
"""The connection to the node of the process is lost, or there was none."""
