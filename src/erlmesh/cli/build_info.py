"""Which erlmesh runs: its version, pure Python or native, and the event loop."""

from __future__ import annotations

import sys

from erlmesh import native
from erlmesh.version import __version__

TYPE_CHECKING = False  # type checkers take it as true; `typing` is not imported for `erlmesh --version`
if TYPE_CHECKING:
    import asyncio

__all__ = ["build_facts", "describe_build"]


def build_facts(loop: asyncio.AbstractEventLoop | None = None) -> dict[str, str]:
    """Return the facts as texts. Without ``loop``, a loop is made and closed, as ``asyncio.run`` makes it."""
    if loop is not None:
        name = _package_of(loop)
    elif "asyncio" not in sys.modules:
        name = "asyncio"  # Nobody has set another policy. `erlmesh --version` does not import asyncio to see that.
    else:
        made = sys.modules["asyncio"].new_event_loop()
        name = _package_of(made)
        made.close()
    return {"version": __version__, "build": native.description, "event_loop": name}


def _package_of(loop: asyncio.AbstractEventLoop) -> str:
    return type(loop).__module__.partition(".")[0]


def describe_build(loop: asyncio.AbstractEventLoop | None = None) -> str:
    """Return one line: ``0.1.0, native (erlmesh-native 0.1.0), event loop asyncio``."""
    facts = build_facts(loop)
    return f"{facts['version']}, {facts['build']}, event loop {facts['event_loop']}"
