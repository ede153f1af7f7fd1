"""The HTTP server of ``erlmesh start --metrics``: Prometheus reads the metrics of a node from it.

It runs in threads, so it answers also while the event loop is blocked. A connection carries one request. At most
:data:`MAX_CLIENTS` are open; a further one closes the oldest. So clients that send or read slowly cannot fill the
process with threads. Only ``/metrics`` and ``/`` exist, and only GET.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Final

from erlmesh.errors import NodeStartError
from erlmesh.net.acceptor import ACCEPT_PAUSE, is_out_of_resources, log_exhaustion
from erlmesh.net.fork_guard import close_in_children

__all__ = ["MAX_CLIENTS", "MetricsServer"]

MAX_CLIENTS: Final = 16
"""Connections that are open at the same time."""
CLIENT_TIMEOUT: Final = 5.0
"""Seconds that a client may neither send nor read."""
PATHS: Final = ("/", "/metrics")

Page = Callable[[str], tuple[str, bytes]]
"""Makes the page for the ``Accept`` header of a request: the content type and the text. Several threads call it."""


class MetricsServer:
    """Serves ``page`` on one address from now on until :meth:`close`."""

    def __init__(self, host: str, port: int, page: Page) -> None:
        """Start the server. Port 0 is any free port. Raises NodeStartError if the address cannot be used."""
        try:
            *_, (family, _, _, _, address) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self._server = _Server(family, (str(address[0]), port), page)
        except OSError as error:
            raise NodeStartError(
                f"--metrics cannot listen on {host} port {port}: {error.strerror or error}. Choose another port, or an "
                "address of this machine"
            ) from error
        self.port: int = self._server.server_address[1]
        self._closed = False
        threading.Thread(target=self._accept, name=f"metrics on port {self.port}", daemon=True).start()

    def close(self) -> None:
        """Stop the server and close all connections."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._server.socket.shutdown(socket.SHUT_RDWR)  # ends the thread's accept()
        self._server.server_close()
        self._server.close_clients()

    def _accept(self) -> None:
        while True:
            try:
                request, address = self._server.get_request()
            except OSError as error:
                if self._closed:
                    return
                if is_out_of_resources(error):
                    log_exhaustion(error)
                time.sleep(ACCEPT_PAUSE)
                continue
            self._server.process_request(request, address)


class _Server(TCPServer):
    allow_reuse_address = True
    request_queue_size = MAX_CLIENTS

    def __init__(self, family: int, address: tuple[str, int], page: Page) -> None:
        self.address_family = family
        self.page = page
        self._clients: dict[socket.socket, None] = {}
        self._lock = threading.Lock()
        super().__init__(address, _Handler)
        close_in_children(self.socket)

    def process_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        with self._lock:
            if len(self._clients) >= MAX_CLIENTS:
                oldest = next(iter(self._clients))
                del self._clients[oldest]
                _shut(oldest)
            self._clients[close_in_children(request)] = None
        try:
            threading.Thread(
                target=self._serve, args=(request, client_address), name="client of metrics", daemon=True
            ).start()
        except RuntimeError:  # no thread can be started now
            self._forget(request)

    def _serve(self, request: socket.socket, client_address: object) -> None:
        try:
            with contextlib.suppress(OSError):  # the client has disconnected, or was too slow
                self.finish_request(request, client_address)
        finally:
            self._forget(request)

    def _forget(self, request: socket.socket) -> None:
        with self._lock:
            self._clients.pop(request, None)
        self.shutdown_request(request)

    def close_clients(self) -> None:
        with self._lock:
            for request in self._clients:
                _shut(request)


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_TIMEOUT
    server: _Server
    server_version = "erlmesh"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] not in PATHS:
            self.send_error(404, explain="the metrics are at /metrics")
            return
        kind, text = self.server.page(self.headers.get("Accept", ""))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""


def _shut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
