"""Which erlmesh runs: its version, pure Python or native, and the event loop."""

from __future__ import annotations

import asyncio

from erlmesh import __version__, native

__all__ = ["build_facts", "describe_build"]


def build_facts(loop: asyncio.AbstractEventLoop | None = None) -> dict[str, str]:
    """Return the facts as texts. Without ``loop``, a loop is made and closed, as ``asyncio.run`` makes it."""
    made = asyncio.new_event_loop() if loop is None else None
    try:
        name = type(loop or made).__module__.partition(".")[0]
    finally:
        if made is not None:
            made.close()
    return {"version": __version__, "build": native.description, "event_loop": name}


def describe_build(loop: asyncio.AbstractEventLoop | None = None) -> str:
    """Return one line: ``0.1.0, native (erlmesh-native 0.1.0), event loop asyncio``."""
    facts = build_facts(loop)
    return f"{facts['version']}, {facts['build']}, event loop {facts['event_loop']}"
