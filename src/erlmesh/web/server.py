"""The HTTP server of the page. It runs in the event loop of its node, and leaves signals to the program.

::

    GET  /                 the page                       GET  /events       server-sent events, a snapshot first
    GET  /static/FILE      its files                      GET  /recording    the lines of a recording
    POST /control/ACTION   a button, if they are allowed

GET changes nothing. Viewers, connections and the sizes of requests are limited. A viewer that does not read for
``STALL`` seconds is dropped; its browser connects again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from aiohttp import web

from erlmesh.errors import NodeStartError
from erlmesh.net.event_log import event_log
from erlmesh.web.guard import HEADERS, Guard
from erlmesh.web.pages import INDEX, load_pages
from erlmesh.web.viewers import Viewer, encode_event

__all__ = ["MAX_VIEWERS", "ControlActions", "MapServer", "Source"]

log = event_log("erlmesh.map")

MAX_VIEWERS: Final = 32
MAX_CONNECTIONS: Final = 128
MAX_BODY: Final = 4096
IDLE_TIMEOUT: Final = 15.0
"""Seconds in which a connection must have a request, and a request its body."""
FLUSH_INTERVAL: Final = 0.1
"""Seconds between two writes to a viewer, at least."""
CLOCK_INTERVAL: Final = 1.0
STALL: Final = 20.0
READ_SIZE: Final = 256 * 1024
WRITE_BUFFER: Final = 64 * 1024
"""Bytes that wait for a viewer in this process, beside those in the kernel."""
NO_PAGE: Final = "The files of the page are not installed. /events has the data."


class Source(Protocol):
    """What the server shows."""

    def new_viewer(self) -> tuple[Viewer, Callable[[], None]]:
        """Return a viewer, and a function that removes it."""

    def recording_parts(self) -> list[tuple[Path, int]] | None:
        """Return the files of a recording, each with the bytes to send of it; None for a cluster that runs."""


class ControlActions(Protocol):
    """The buttons; see :class:`erlmesh.web.control.Control`."""

    actions: dict[str, Any]

    async def run(self, action: str, body: dict[str, Any], viewer: str) -> tuple[bool, str]: ...


class MapServer:
    """Serves ``source`` on ``host`` and ``port`` (0: a free one). ``control`` is None if there are no buttons."""

    def __init__(
        self,
        source: Source,
        guard_of_port: Callable[[int], Guard],
        host: str,
        port: int,
        control: ControlActions | None,
    ) -> None:
        self._source = source
        self._guard_of_port = guard_of_port
        self._guard = guard_of_port(port)
        self._address = host, port
        self._control = control
        self._pages = load_pages()
        self._streams: dict[Viewer, web.Request] = {}
        """The requests of viewers that look."""
        self._requests: dict[web.RequestHandler, tuple[int, int]] = {}
        """How many requests of each connection have begun and ended."""
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises NodeStartError if the address cannot be used."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._check])
        app.router.add_get("/", self._page)
        app.router.add_get("/static/{name:.+}", self._static)
        app.router.add_get("/events", self._events)
        app.router.add_get("/recording", self._recording)
        app.router.add_get("/favicon.ico", self._no_icon)
        app.router.add_post("/control/{action}", self._control_request)
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, keepalive_timeout=15.0, lingering_time=0.0, shutdown_timeout=1.0
        )
        await self._runner.setup()
        host, port = self._address
        try:
            self._listener = await asyncio.get_running_loop().create_server(self._accept, host, port)
        except OSError as error:
            await self._runner.cleanup()
            reason = error.strerror or error
            raise NodeStartError(f"the map cannot listen on {host} port {port}: {reason}. Give another one") from error
        self.port = self._listener.sockets[0].getsockname()[1]
        self._guard = self._guard_of_port(self.port)

    async def close(self) -> None:
        """End all requests, and listen no more."""
        self._stopping.set()
        for viewer, request in self._streams.items():
            viewer.wake()
            if request.transport is not None:
                request.transport.abort()  # what waits for a viewer that does not read must not hold up the end
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def _accept(self) -> asyncio.BaseProtocol:
        """Make the protocol of a connection. Beyond the limit it is closed, before a byte is read."""
        assert self._runner is not None
        server = self._runner.server
        assert server is not None
        if len(server.connections) >= MAX_CONNECTIONS:
            return _Refuse()
        protocol = server()
        self._requests[protocol] = 0, 0
        asyncio.get_running_loop().call_later(IDLE_TIMEOUT, self._drop_if_idle, protocol, 0)
        return protocol

    def _drop_if_idle(self, protocol: web.RequestHandler, handled: int) -> None:
        """Close a connection without a request in the last seconds: aiohttp waits for the first one for ever."""
        begun, ended = self._requests[protocol]
        if protocol.transport is None or begun == ended == handled:
            del self._requests[protocol]
            if protocol.transport is not None:
                protocol.transport.abort()
        elif not self._stopping.is_set():
            asyncio.get_running_loop().call_later(IDLE_TIMEOUT, self._drop_if_idle, protocol, begun)

    # Checks

    @web.middleware
    async def _check(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        begun, ended = self._requests.get(request.protocol, (0, 0))
        self._requests[request.protocol] = begun + 1, ended
        try:
            return await self._answer(request, handler)
        finally:
            if request.protocol in self._requests:
                self._requests[request.protocol] = begun + 1, ended + 1

    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            refusal = self._guard.refusal(request.headers, request.cookies, request.query.get("token"))
            if refusal is not None:
                response: web.StreamResponse = _text(*refusal)
            elif "token" in request.query and request.path == "/":
                response = self._with_cookie(request)
            else:
                response = await handler(request)
        except web.HTTPException as error:
            response = _text(error.status, error.reason)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    def _with_cookie(self, request: web.Request) -> web.StreamResponse:
        """Keep the token in a cookie, so that it is not in the address any more."""
        token = request.query["token"]
        response = web.Response(status=303, headers={"Location": "/"})
        if self._guard.is_token(token):
            response.set_cookie(self._guard.cookie, token, httponly=True, samesite="Strict", path="/")
        return response

    # Requests

    async def _page(self, _request: web.Request) -> web.StreamResponse:
        return self._file(INDEX) or _text(200, NO_PAGE)

    async def _static(self, request: web.Request) -> web.StreamResponse:
        return self._file(request.match_info["name"]) or _text(404, "There is no such file.")

    def _file(self, name: str) -> web.Response | None:
        found = self._pages.get(name)
        return None if found is None else web.Response(body=found[0], content_type=found[1], charset="utf-8")

    async def _no_icon(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    async def _recording(self, request: web.Request) -> web.StreamResponse:
        parts = self._source.recording_parts()
        if parts is None:
            return _text(404, "This page shows a running cluster. There is no recording.")
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "application/x-ndjson"})
        response.content_length = sum(length for _, length in parts)
        await response.prepare(request)
        with suppress(ConnectionError, TimeoutError):
            for path, length in parts:
                await self._send_file(response, path, length)
        return response

    async def _send_file(self, response: web.StreamResponse, path: Path, length: int) -> None:
        with path.open("rb") as file:
            while length and (piece := file.read(min(length, READ_SIZE))):
                length -= len(piece)
                async with asyncio.timeout(STALL):
                    await response.write(piece)

    async def _control_request(self, request: web.Request) -> web.StreamResponse:
        action = request.match_info["action"]
        if self._control is None:
            return _text(403, "The buttons are not allowed. Start the map with --map-control.")
        if action not in self._control.actions:
            return _text(404, "There is no such action.")
        refusal = self._guard.control_refusal(request.headers)
        if refusal is not None:
            return _text(*refusal)
        try:
            async with asyncio.timeout(IDLE_TIMEOUT):
                body = json.loads(await request.read())
        except (ValueError, RecursionError, TimeoutError):
            body = None
        if not isinstance(body, dict):
            return _text(400, "The body must be a JSON object.")
        done, text = await self._control.run(action, body, request.remote or "somebody")
        return web.json_response({"ok": done, "text": text})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._streams) >= MAX_VIEWERS or self._stopping.is_set():
            return _text(503, f"{len(self._streams)} viewers look at this map already.")
        viewer, remove = self._source.new_viewer()
        self._streams[viewer] = request
        try:
            return await self._stream(request, viewer)
        finally:
            del self._streams[viewer]
            remove()

    async def _stream(self, request: web.Request, viewer: Viewer) -> web.StreamResponse:
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        if request.transport is not None:
            request.transport.set_write_buffer_limits(WRITE_BUFFER)
        data = b"retry: 1000\n\n"
        with suppress(ConnectionError, TimeoutError):
            while not self._stopping.is_set():
                async with asyncio.timeout(STALL):
                    await response.write(data)
                await asyncio.sleep(FLUSH_INTERVAL)
                changed = await viewer.wait(CLOCK_INTERVAL - FLUSH_INTERVAL)
                data = viewer.take() if changed else encode_event("clock", {"now": round(time.time(), 3)})
            return response
        if request.transport is not None:
            request.transport.abort()  # the rest would wait as long as the viewer does not read
        return response


class _Refuse(asyncio.Protocol):
    """Closes a connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n")
