"""A server that speaks the protocol of the map's page: what a test sends is what the page gets."""

from __future__ import annotations

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

STATIC = Path(__file__).parents[2] / "src/erlmesh/web/static"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
SERVER_STOPPED = ("INCOMPLETE_CHUNKED_ENCODING", "CONNECTION_REFUSED", "CONNECTION_RESET", "EMPTY_RESPONSE")
"""What Chromium writes when a test stops the server."""
HEADERS = {"Content-Security-Policy": "default-src 'self'", "X-Content-Type-Options": "nosniff"}


class MapServer:
    """Sends `snapshot` first to each viewer, then what :meth:`send` is called with."""

    def __init__(self, port: int = 0) -> None:
        self.snapshot: dict[str, Any] = {}
        self.recording = ""
        self.controls: list[tuple[str, Any, str]] = []
        self.control_answer = (200, "pong")
        self.refusal: tuple[int, str] | None = None
        """What viewers get in place of events."""
        self._viewers: list[queue.Queue[bytes | None]] = []
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", port), _Handler)
        self._http.map_server = self
        self.port = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def send(self, kind: str, **data: Any) -> None:
        """Send one message to each viewer."""
        with self._lock:
            for viewer in self._viewers:
                viewer.put(_message(kind, data))

    def add_viewer(self) -> queue.Queue[bytes | None]:
        viewer: queue.Queue[bytes | None] = queue.Queue()
        with self._lock:
            viewer.put(b"retry: 100\n\n" + _message("snapshot", self.snapshot))
            self._viewers.append(viewer)
        return viewer

    def end_streams(self) -> None:
        """End the connections of all viewers."""
        with self._lock:
            while self._viewers:
                self._viewers.pop().put(None)

    def close(self) -> None:
        """End all connections and the threads."""
        self.end_streams()
        self._http.shutdown()
        self._http.server_close()  # joins the threads of the requests
        self._thread.join()


class _Http(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128  # the page loads its modules at once
    map_server: MapServer


class _Handler(BaseHTTPRequestHandler):
    server: _Http

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        refusal = self.server.map_server.refusal
        if path == "/events" and refusal is not None:
            self._answer(refusal[0], refusal[1].encode(), "text/plain")
        elif path == "/events":
            self._stream()
        elif path == "/recording":
            self._answer(200, self.server.map_server.recording.encode(), "application/x-ndjson")
        elif path == "/" or path.startswith("/static/"):
            file = STATIC / (path.removeprefix("/static/").strip("/") or "index.html")
            self._answer(200, file.read_bytes(), TYPES[file.suffix])
        elif path == "/favicon.ico":
            self._answer(204, b"", "text/plain")
        else:
            self._answer(404, b"no such page", "text/plain")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server.map_server
        server.controls.append((self.path, json.loads(body), self.headers["X-CSRF-Token"]))
        status, text = server.control_answer
        self._answer(status, text.encode(), "text/plain")

    def log_message(self, *_arguments: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self._send_headers({"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"})
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self._send_headers({"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        viewer = self.server.map_server.add_viewer()
        try:
            while (data := viewer.get()) is not None:
                self.wfile.write(data)
                self.wfile.flush()
        except OSError:
            pass  # the page is closed

    def _send_headers(self, headers: dict[str, str]) -> None:
        for name, value in (HEADERS | headers).items():
            self.send_header(name, value)
        self.end_headers()


def _message(kind: str, data: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()
