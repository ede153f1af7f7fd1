"""``erlmesh start --metrics`` and what Prometheus reads from it."""

import contextlib
import socket
import urllib.request

from skips import import_or_skip

import_or_skip("prometheus_client")


def read(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return answer.read().decode()


def test_a_node_serves_its_metrics_and_those_of_its_process(erlmesh, free_port):
    erlmesh.start("start", "--name", "plato", "--metrics", str(free_port)).wait_for("is up")

    page = read(free_port)

    assert 'erlmesh_node_up{node="plato@127.0.0.1"} 1.0' in page
    assert "process_resident_memory_bytes" in page


def test_a_port_in_use_is_an_error_and_the_node_does_not_stay(erlmesh, free_port):
    erlmesh.start("start", "--name", "plato", ERLMESH_METRICS=str(free_port)).wait_for("is up")

    second = erlmesh.start("start", "--name", "socrates", "--metrics", str(free_port))

    second.wait_for("Choose another port")
    assert second.process.wait(timeout=60) != 0


def test_each_worker_has_a_port_of_its_own(erlmesh):
    port = two_free_ports()
    workers = erlmesh.start("start", "--name", "plato", "--workers", "2", "--metrics", str(port))
    workers.wait_for("is up: 2 workers")

    assert 'node="plato-1@127.0.0.1"' in read(port)
    assert 'node="plato-2@127.0.0.1"' in read(port + 1)


def two_free_ports():
    """The first of two free ports in a row."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = first.getsockname()[1]
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port + 1)):
                return port
