"""The HTTP server of the metrics: what it answers, and what slow and wrong clients can do."""

import contextlib
import http.client
import socket
import threading

import pytest

from erlmesh.errors import NodeStartError
from erlmesh.net.metrics_server import MAX_CLIENTS, MetricsServer
from erlmesh.runtime.option_parsers import parse_endpoint


@contextlib.contextmanager
def served(page=lambda accept: ("text/plain", f"accept={accept}".encode()), host="127.0.0.1"):
    server = MetricsServer(host, 0, page)
    before = threading.active_count()
    try:
        yield server
    finally:
        server.close()
    while threading.active_count() >= before:  # the threads of the server and of its clients end
        for thread in threading.enumerate():
            if "metrics" in thread.name:
                thread.join()


def request(server, method="GET", path="/metrics", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()
    finally:
        connection.close()


def test_the_page_is_made_for_the_accept_header():
    with served() as server:
        assert request(server, headers={"Accept": "a/b"}) == (200, "text/plain", b"accept=a/b")
        assert request(server, path="/")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/other", 404), ("POST", "/metrics", 501), ("GET", "/metrics/../x", 404)]
)
def test_only_the_page_exists(method, path, status):
    with served() as server:
        assert request(server, method, path)[0] == status


def test_it_listens_on_the_given_address_only():
    with served() as server, socket.socket() as client:
        client.settimeout(5)
        with pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.2", server.port))


def test_a_port_in_use_is_an_error_that_says_what_to_do():
    with served() as server, pytest.raises(NodeStartError, match="Choose another port"):
        MetricsServer("127.0.0.1", server.port, lambda _: ("", b""))


def test_clients_that_send_nothing_do_not_keep_others_out():
    with served() as server, contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(3 * MAX_CLIENTS)
        ]

        assert request(server)[0] == 200
        assert len(server._server._clients) <= MAX_CLIENTS
        silent[0].settimeout(10)
        assert silent[0].recv(1) == b""  # the oldest was closed


def test_close_ends_the_clients_too():
    with served() as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        assert request(server)[0] == 200  # the server has accepted the other one before
    client.settimeout(10)
    with client:
        assert client.recv(1) == b""


@pytest.mark.parametrize(
    "data", [b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"a" * 70000]
)
def test_bytes_that_are_no_request_end_their_connection_only(data, capsys):
    with served() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client, contextlib.suppress(OSError):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            client.settimeout(10)
            while client.recv(1000):
                pass
        assert request(server)[0] == 200
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9100", ("127.0.0.1", 9100)),
        ("0.0.0.0:9100", ("0.0.0.0", 9100)),
        ("[::1]:9100", ("::1", 9100)),
        ("metrics.example:1", ("metrics.example", 1)),
    ],
)
def test_an_endpoint_is_a_port_or_a_host_and_a_port(text, expected):
    assert parse_endpoint(text, "--metrics") == expected


@pytest.mark.parametrize("text", ["", "x", "0", "70000", ":9100", "::1:9100", "host:"])
def test_a_wrong_endpoint_is_refused_with_the_option(text):
    with pytest.raises(NodeStartError, match="--metrics is"):
        parse_endpoint(text, "--metrics")
