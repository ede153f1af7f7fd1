"""The watchdog of the build that runs: a native thread without the GIL, or a thread in Python."""

from __future__ import annotations

import asyncio

from erlmesh import native
from erlmesh.net.native_watchdog import NativeWatchdog
from erlmesh.net.watchdog_thread import WatchdogThread
from erlmesh.net.watched_node import Watchdog, WatchedNode

__all__ = ["attach_watchdog", "watchdog_for_loop"]

_Watchdog = WatchdogThread if native.module is None else NativeWatchdog


def attach_watchdog(node: WatchedNode, *, thread_in_python: bool = False) -> Watchdog:
    """Watch the running loop for ``node`` from now on. Return the watchdog, which is shared by all nodes.

    A node with TLS needs a thread in Python, because OpenSSL encrypts its ticks.
    """
    return WatchdogThread.attach(node) if thread_in_python else _Watchdog.attach(node)


def watchdog_for_loop(loop: asyncio.AbstractEventLoop) -> Watchdog | None:
    """Return the watchdog of ``loop``, if it has one."""
    return _Watchdog.for_loop(loop)
