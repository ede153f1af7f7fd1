"""The HTTP server of the page. It runs in the event loop of its node.

::

    GET  /                 the page                       GET  /events       server-sent events, a snapshot first
    GET  /static/FILE      its files                      GET  /recording    the lines of a recording
    POST /control/ACTION   a button, if they are allowed

GET changes nothing. A connection carries one request. Viewers, connections and the sizes of requests are limited. A
client that does not send or read for some seconds is dropped; a browser connects again. h11 parses requests: a whole
server, as aiohttp has, would use more memory than all the rest of the map.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from erlmesh.errors import NodeStartError
from erlmesh.records import record
from erlmesh.web.encodings import encode_event
from erlmesh.web.guard import HEADERS, Guard, Refusal
from erlmesh.web.http_request import MAX_HEAD, Request, parse_head
from erlmesh.web.pages import INDEX, load_pages
from erlmesh.web.viewers import Viewer

__all__ = ["MAX_CONNECTIONS", "MAX_VIEWERS", "SEND_BUFFER", "ControlActions", "MapServer", "Source"]

MAX_VIEWERS: Final = 64
MAX_CONNECTIONS: Final = 192
MAX_BODY: Final = 4096
IDLE_TIMEOUT: Final = 15.0
"""Seconds in which a connection must have sent its request, and then its body."""
FLUSH_INTERVAL: Final = 0.1
"""Seconds between two writes to a viewer, at least."""
CLOCK_INTERVAL: Final = 1.0
STALL: Final = 20.0
LINGER: Final = 1.0
"""Seconds in which the rest of a refused request is read. If it were not read, the client would not get the answer."""
MAX_LINGER: Final = 256 * 1024
READ_SIZE: Final = 256 * 1024
WRITE_BUFFER: Final = 64 * 1024
"""Bytes that wait for a client in this process, beside those in the kernel."""
SEND_BUFFER: Final = 256 * 1024
"""The same for a viewer, in the kernel. It would keep 4 MB, and a slow page would show what was long ago."""
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


@record(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    kind: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


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
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        """The connections."""
        self._without_request: dict[asyncio.StreamWriter, None] = {}
        """Those that have not sent a whole request, the oldest first."""
        self._viewers: dict[Viewer, None] = {}
        self._stopping = False
        self._listener: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises NodeStartError if the address cannot be used."""
        host, port = self._address
        try:
            self._listener = await asyncio.start_server(self._connected, host, port, limit=MAX_HEAD)
        except OSError as error:
            reason = error.strerror or error
            raise NodeStartError(f"the map cannot listen on {host} port {port}: {reason}. Give another one") from error
        self.port = self._listener.sockets[0].getsockname()[1]
        self._guard = self._guard_of_port(self.port)

    async def close(self) -> None:
        """End all requests, and listen no more."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        tasks = list(self._tasks)
        for task, writer in self._tasks.items():
            task.cancel()
            writer.transport.abort()  # what waits for a viewer that does not read must not hold up the end
        await asyncio.gather(*tasks, return_exceptions=True)

    # Connections

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stopping or not self._has_room():
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = writer
        self._without_request[writer] = None
        try:
            with suppress(ConnectionError, TimeoutError):
                await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # The server ends. Nobody waits for this task but `close`.
        finally:
            del self._tasks[task]
            self._without_request.pop(writer, None)
            writer.transport.abort()

    def _has_room(self) -> bool:
        """Whether one more connection may be served. The oldest one without a request makes room for it."""
        if len(self._tasks) < MAX_CONNECTIONS:
            return True
        oldest = next(iter(self._without_request), None)
        if oldest is None:
            return False
        del self._without_request[oldest]
        oldest.transport.abort()
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request: Request | Refusal
        try:
            async with asyncio.timeout(IDLE_TIMEOUT):
                request = parse_head(await reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            request = 431, f"The head of the request has more than {MAX_HEAD} bytes."
        self._without_request.pop(writer, None)
        if isinstance(request, tuple):
            await self._send(_text(*request), reader, writer)
        elif (answer := await self._answer(request, reader, writer)) is not None:
            await self._send(answer, reader, writer, with_body=request.method != "HEAD")

    async def _send(
        self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, with_body: bool = True
    ) -> None:
        writer.transport.set_write_buffer_limits(0)
        headers = {"Content-Type": answer.kind, "Content-Length": str(len(answer.body)), **dict(answer.headers)}
        writer.write(_head(answer.status, headers) + (answer.body if with_body else b""))
        async with asyncio.timeout(STALL):
            await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(LINGER):
            left = MAX_LINGER
            while left > 0 and (data := await reader.read(READ_SIZE)):
                left -= len(data)

    # Requests

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Answer | None:
        """Return the answer; None if it was sent."""
        refusal = self._guard.refusal(request.headers, request.cookies, request.query.get("token"))
        if refusal is not None:
            return _text(*refusal)
        if request.path.startswith("/control/"):
            return await self._control_request(request, reader, writer)
        if request.method != "GET":
            return _not_allowed("GET")
        match request.path:
            case "/":
                return self._page(request)
            case "/events":
                return await self._events(writer)
            case "/recording":
                return await self._recording(writer)
            case "/favicon.ico":
                return Answer(204, b"")
        return self._file(request.path.removeprefix("/static/")) or _text(404, "There is no such file.")

    def _page(self, request: Request) -> Answer:
        token = request.query.get("token")
        if token is None:
            return self._file(INDEX) or _text(200, NO_PAGE)
        headers = [("Location", "/")]
        if self._guard.is_token(token):  # keep it in a cookie, so that it is not in the address any more
            value = f"{self._guard.cookie}={quote(token, safe='')}; Path=/; HttpOnly; SameSite=Strict"
            headers.append(("Set-Cookie", value))
        return Answer(303, b"", headers=tuple(headers))

    def _file(self, name: str) -> Answer | None:
        found = self._pages.get(name)
        return None if found is None else Answer(200, found[0], f"{found[1]}; charset=utf-8")

    async def _recording(self, writer: asyncio.StreamWriter) -> Answer | None:
        try:
            parts = self._source.recording_parts()
        except OSError as error:
            return _text(404, f"The recording cannot be read: {error.strerror}.")
        if parts is None:
            return _text(404, "This page shows a running cluster. There is no recording.")
        length = sum(length for _, length in parts)
        writer.transport.set_write_buffer_limits(WRITE_BUFFER)
        writer.write(_head(200, {"Content-Type": "application/x-ndjson", "Content-Length": str(length)}))
        with suppress(OSError):  # a file that is gone ends the answer before its length
            for path, part in parts:
                await _send_file(writer, path, part)
        writer.transport.set_write_buffer_limits(0)
        await _drain(writer)
        return None

    async def _control_request(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Answer:
        action = request.path.removeprefix("/control/")
        if request.method != "POST":
            return _not_allowed("POST")
        if self._control is None:
            return _text(403, "The buttons are not allowed. Start the map with --map-control.")
        if action not in self._control.actions:
            return _text(404, "There is no such action.")
        refusal = self._guard.control_refusal(request.headers)
        if refusal is not None:
            return _text(*refusal)
        if request.body_length > MAX_BODY:
            return _text(413, f"The body has more than {MAX_BODY} bytes.")
        try:
            async with asyncio.timeout(IDLE_TIMEOUT):
                body = json.loads(await reader.readexactly(request.body_length))
        except (ValueError, RecursionError, TimeoutError, asyncio.IncompleteReadError):
            body = None
        if not isinstance(body, dict):
            return _text(400, "The body must be a JSON object.")
        peer = writer.get_extra_info("peername")
        done, text = await self._control.run(action, body, str(peer[0]) if peer else "somebody")
        return Answer(200, json.dumps({"ok": done, "text": text}).encode(), "application/json; charset=utf-8")

    async def _events(self, writer: asyncio.StreamWriter) -> Answer | None:
        if len(self._viewers) >= MAX_VIEWERS:
            return _text(503, f"{len(self._viewers)} viewers look at this map already.")
        viewer, remove = self._source.new_viewer()
        self._viewers[viewer] = None
        try:
            await self._stream(writer, viewer)
        finally:
            del self._viewers[viewer]
            remove()
        return None

    async def _stream(self, writer: asyncio.StreamWriter, viewer: Viewer) -> None:
        writer.transport.set_write_buffer_limits(WRITE_BUFFER)
        with suppress(OSError):  # the viewer has gone already
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        data = _head(200, {"Content-Type": "text/event-stream"}) + b"retry: 1000\n\n"
        while True:
            writer.write(data)
            await _drain(writer)
            await asyncio.sleep(FLUSH_INTERVAL)
            changed = await viewer.wait(CLOCK_INTERVAL - FLUSH_INTERVAL)
            data = viewer.take() if changed else encode_event("clock", {"now": round(time.time(), 3)})


async def _send_file(writer: asyncio.StreamWriter, path: Path, length: int) -> None:
    with path.open("rb") as file:
        while length and (piece := file.read(min(length, READ_SIZE))):
            length -= len(piece)
            writer.write(piece)
            await _drain(writer)


async def _drain(writer: asyncio.StreamWriter) -> None:
    """Wait until the client has read. Raises TimeoutError if it does not."""
    async with asyncio.timeout(STALL):
        await writer.drain()


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    fields = {**HEADERS, **headers, "Connection": "close"}
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _text(status: int, text: str) -> Answer:
    return Answer(status, f"{text}\n".encode())


def _not_allowed(method: str) -> Answer:
    return Answer(405, f"Use {method}.\n".encode(), headers=(("Allow", method),))
