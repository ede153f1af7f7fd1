"""The page that ``observe`` opens: the map of the cluster, in a process that is linked with the shell's process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from erlmesh.errors import ErlmeshError, NodeStartError

if TYPE_CHECKING:
    from erlmesh.node import Node, Process

__all__ = ["MapPage"]


class MapPage:
    """The page of one session. It listens on loopback, and ends with the process of the shell.

    The browser opens only beside a terminal of this machine: not for a ``remote`` session.
    """

    def __init__(self, node: Node, me: Callable[[], Process], *, remote: bool) -> None:
        self._node = node
        self._me = me
        self._remote = remote
        self._url: asyncio.Future[str] | None = None

    async def open(self) -> str:
        """Return a sentence with the address. The first call starts the page. Raises NodeStartError."""
        if self._url is None:
            self._url = asyncio.get_running_loop().create_future()
            self._me().spawn(self._serve, self._url, link=True)
        url = await asyncio.shield(self._url)
        if not self._remote and _has_display():
            import webbrowser  # noqa: PLC0415 - only here

            if await asyncio.to_thread(webbrowser.open, url):
                return f"the map of the cluster opens in the browser: {url}"
        host = self._node.name.partition("@")[2]
        where = f" on the host of {self._node.name}, {host}," if self._remote else ""
        return f"the map of the cluster is at {url}{where} until this shell ends"

    async def _serve(self, _me: Process, started: asyncio.Future[str]) -> None:
        try:
            async with self._node.map() as page:
                started.set_result(page.url)
                await asyncio.Event().wait()
        except ErlmeshError as error:
            if not started.done():
                started.set_exception(NodeStartError(str(error)))
        finally:
            self._url = None  # the next call starts another one
            started.cancel()  # for a process that is killed before the page is up


def _has_display() -> bool:
    """Whether a browser can show a page here. Without this, webbrowser may start a browser in this terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
