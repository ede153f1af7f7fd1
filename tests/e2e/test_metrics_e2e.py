"""``erlmesh start --metrics`` and what Prometheus reads from it."""

import urllib.request

import pytest

pytest.importorskip("prometheus_client")


def read(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
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
    assert second.process.wait(timeout=20) != 0
