"""``erlmesh doctor`` against real nodes, faulty nodes and servers that are not nodes."""

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from cluster import free_port
from erlmesh.cli.build_info import build_facts, describe_build
from polling import wait_until
from pynode import python_environment

HEALTHY = [
    "name",
    "dns",
    "epmd",
    "registered",
    "port",
    "handshake",
    "flags",
    "cookie",
    "ping",
    "release",
    "global",
    "pg",
]


class Doctor:
    """``doctor("plato@127.0.0.1")`` returns the exit code and the steps by name. ``last`` is the last step."""

    def __init__(self, cluster):
        self.environment = {
            "PATH": os.environ["PATH"],
            **python_environment(cluster.epmd_port, cluster.home),
            "ERLMESH_COOKIE": "monster",
        }

    def __call__(self, node, *options):
        code, text = self.run(node, "--json", "--timeout", "1", *options)
        answer = json.loads(text)
        assert answer["ok"] is (code == 0)
        assert answer["node"] == node
        assert answer["erlmesh"] == build_facts()
        steps = {step["step"]: step for step in answer["steps"]}
        assert len(steps) == len(answer["steps"])
        self.last = answer["steps"][-1]
        if code:
            assert self.last["status"] == "failed"
            assert self.last["explanation"]
            assert self.last["advice"]
        return code, steps

    def run(self, *arguments):
        command = [sys.executable, "-W", "error", "-m", "erlmesh", "doctor", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        return done.returncode, done.stdout


@pytest.fixture
def doctor(cluster):
    cluster.start_epmd_once()
    return Doctor(cluster)


@pytest.fixture
def epmd_registration(cluster):
    """``epmd_registration("ghost", port)`` enters a name in the cluster's EPMD, as a node does."""
    with contextlib.ExitStack() as stack:

        def enter(name, port):
            link = stack.enter_context(socket.create_connection(("127.0.0.1", cluster.epmd_port)))
            request = (
                b"x" + port.to_bytes(2, "big") + b"M\0\0\6\0\5" + len(name).to_bytes(2, "big") + name.encode() + b"\0\0"
            )
            link.sendall(len(request).to_bytes(2, "big") + request)
            assert link.recv(6)[:2] == b"v\0"

        yield enter


@contextlib.contextmanager
def http_server(port=0):
    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


# Healthy nodes


def test_a_healthy_beam_passes_every_step(cluster, doctor, otp):
    plato = cluster.beam("plato", otp=otp)
    plato.eval("pg:start(pg)")

    code, steps = doctor(plato.name)

    assert (code, list(steps)) == (0, HEALTHY)
    assert {step["status"] for step in steps.values()} == {"ok"}
    assert steps["release"]["facts"]["otp"] == str(plato.otp)
    assert (
        steps["flags"]["facts"]["generation"]
        == {23: "23", 25: "25 to 27", 27: "25 to 27", 29: "28 or later"}[plato.otp]
    )
    assert steps["global"]["facts"]["version"] == plato.eval(
        "gen_server:call(global_name_server, get_protocol_version)"
    )
    assert plato.eval("nodes(connected)") == []


def test_a_healthy_python_node_passes_every_step(cluster, doctor):
    socrates, plato = cluster.pynode("socrates"), cluster.beam("plato")
    plato.ping(socrates.name)
    wait_until(lambda: plato.eval("gen_server:call({global_name_server, N}, get_synced)", N=socrates.atom))

    code, steps = doctor(socrates.name, "--scope", "pg", "--scope", "other")

    assert (code, list(steps)) == (0, HEALTHY)
    assert {step["status"] for step in steps.values()} == {"ok"}
    assert steps["release"]["facts"]["otp"] is None
    assert steps["global"]["facts"]["synced"] == [plato.name]
    assert steps["pg"]["facts"]["scopes"] == {"pg": True, "other": False}


def test_the_text_output_has_one_line_per_step(cluster, doctor):
    socrates = cluster.pynode("socrates")

    code, text = doctor.run(socrates.name)

    assert code == 0
    build, *steps = text.splitlines()[: len(HEALTHY) + 1]
    assert build == f"· erlmesh     {describe_build()}"
    assert [line[:2] for line in steps] == ["✓ "] * len(HEALTHY)
    assert text.endswith(f"\n{socrates.name} can be reached.\n")


def test_a_beam_without_pg_is_reachable_and_the_doctor_reports_how_to_start_pg(cluster, doctor):
    plato = cluster.beam("plato")

    code, steps = doctor(plato.name)

    assert (code, steps["pg"]["status"]) == (0, "note")
    assert "pg:start_link()" in " ".join(steps["pg"]["advice"])


# From the name to the port


def test_a_name_of_the_other_form_is_reported(doctor):
    _, steps = doctor("plato@localhost", "--name", "socrates@10.0.0.1")

    assert steps["name"]["status"] == "failed"
    assert "-sname" in " ".join(steps["name"]["advice"])


@pytest.mark.parametrize("name", ["a@b@c", "@host", "näme@host"])
def test_an_invalid_name_ends_the_run_at_once(doctor, name):
    code, steps = doctor(name)

    assert (code, list(steps)) == (1, ["name"])


def test_an_unknown_host_is_reported(doctor):
    doctor("plato@no-such-host.invalid")

    assert doctor.last["step"] == "dns"
    assert "/etc/hosts" in " ".join(doctor.last["advice"])


def test_a_missing_epmd_is_reported(cluster, doctor):
    doctor.environment["ERL_EPMD_PORT"] = str(free_port())

    doctor("plato@127.0.0.1")

    assert doctor.last["step"] == "epmd"
    assert doctor.last["facts"]["fault"] == "refused"


def test_an_http_server_on_the_epmd_port_is_reported(doctor):
    with http_server() as port:
        doctor.environment["ERL_EPMD_PORT"] = str(port)

        doctor("plato@127.0.0.1")

    assert doctor.last["step"] == "epmd"
    assert "an HTTP server" in doctor.last["summary"]


def test_a_paused_epmd_is_reported(cluster, doctor):
    epmd = cluster.processes[0]
    epmd.stop()

    doctor("plato@127.0.0.1")

    assert (doctor.last["step"], doctor.last["facts"]["fault"]) == ("epmd", "no_response")
    assert "SIGSTOP" in doctor.last["explanation"]


def test_a_name_unknown_to_epmd_is_reported_with_the_registered_names(cluster, doctor):
    cluster.beam("plato")

    doctor("platon@127.0.0.1")

    assert doctor.last["step"] == "registered"
    assert "it knows plato" in doctor.last["summary"]
    assert doctor.last["advice"] == ["Did you mean plato@127.0.0.1?"]


def test_a_registered_port_without_a_listener_is_reported(doctor, epmd_registration):
    port = free_port()
    epmd_registration("ghost", port)

    doctor("ghost@127.0.0.1")

    assert doctor.last["step"] == "port"
    assert f"EPMD answers, but nothing listens on port {port}" in doctor.last["summary"]
    assert "another interface" in doctor.last["explanation"]


def test_a_port_that_never_accepts_is_reported_as_a_firewall(doctor, epmd_registration):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        port = full.getsockname()[1]
        epmd_registration("ghost", port)
        for _ in range(4):  # a full backlog drops further attempts
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))

        doctor("ghost@127.0.0.1")

    assert doctor.last["step"] == "port"
    assert "firewall" in doctor.last["explanation"]


# What listens on the port


def test_a_silent_listener_is_reported(doctor, epmd_registration):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        epmd_registration("ghost", silent.getsockname()[1])

        doctor("ghost@127.0.0.1")

    assert (doctor.last["step"], doctor.last["facts"]["fault"]) == ("handshake", "no_response")


def test_an_http_server_on_the_node_port_is_reported(doctor, epmd_registration):
    with http_server() as port:
        epmd_registration("ghost", port)

        doctor("ghost@127.0.0.1")

    assert doctor.last["step"] == "handshake"
    assert "an HTTP server" in doctor.last["summary"]


def test_a_node_with_tls_distribution_is_reported(cluster, doctor, tmp_path):
    both = tmp_path / "both.pem"
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=plato"]
    subprocess.run([*making, "-keyout", tmp_path / "key", "-out", tmp_path / "cert"], check=True, capture_output=True)
    both.write_text((tmp_path / "cert").read_text() + (tmp_path / "key").read_text())
    options = ["server_certfile", str(both), "server_verify", "verify_none"]
    plato = cluster.beam("plato", arguments=["-proto_dist", "inet_tls", "-ssl_dist_opt", *options])

    doctor(plato.name)

    assert doctor.last["step"] == "handshake"
    assert "TLS" in doctor.last["summary"]


@pytest.mark.parametrize("kind", ["beam", "pynode"])
def test_a_paused_node_is_reported(cluster, doctor, kind):
    plato = getattr(cluster, kind)("plato")
    plato.stop()

    code, _ = doctor(plato.name)

    assert (code, doctor.last["step"], doctor.last["facts"]["fault"]) == (1, "handshake", "no_response")
    assert "SIGSTOP" in doctor.last["explanation"]
    plato.cont()
    assert doctor(plato.name)[0] == 0


@pytest.mark.parametrize("kind", ["beam", "pynode"])
def test_a_wrong_cookie_is_reported(cluster, doctor, kind, otp):
    options = {"otp": otp} if kind == "beam" else {}
    plato = getattr(cluster, kind)("plato", cookie="another", **options)

    _, steps = doctor(plato.name)

    assert doctor.last["step"] == "cookie"
    assert steps["handshake"]["status"] == steps["flags"]["status"] == "ok"
    assert "erlang:get_cookie()" in " ".join(doctor.last["advice"])


def test_a_missing_local_cookie_is_reported(cluster, doctor):
    plato = cluster.beam("plato")
    del doctor.environment["ERLMESH_COOKIE"]

    doctor(plato.name)

    assert doctor.last["step"] == "cookie"
    assert ".erlang.cookie" in doctor.last["advice"][0]


def test_a_node_with_another_name_on_the_port_is_reported(cluster, doctor, epmd_registration):
    plato = cluster.pynode("plato")
    epmd_registration("ghost", plato.eval("node.internals.port"))

    doctor("ghost@127.0.0.1")

    assert doctor.last["step"] == "handshake"
    assert "plato@127.0.0.1, not ghost@127.0.0.1" in doctor.last["summary"]


def test_an_allow_list_is_reported(cluster, doctor):
    plato, socrates = cluster.beam("plato"), cluster.pynode("socrates", allow=["nobody@"])
    plato.eval("ok = net_kernel:allow(['somebody@127.0.0.1'])")

    for node in (plato, socrates):
        doctor(node.name)

        assert doctor.last["step"] == "handshake"
        assert "not_allowed" in doctor.last["summary"]


# Other cases


def test_a_node_without_epmd_is_found_by_its_port(cluster, doctor):
    port = free_port()
    listen = ["-kernel", "inet_dist_use_interface", "{127,0,0,2}"]
    plato = cluster.beam("plato@127.0.0.2", arguments=["-erl_epmd_port", str(port), *listen])

    code, steps = doctor(plato.name, "--erl-epmd-port", str(port))
    assert (code, steps["epmd"]["status"]) == (0, "skipped")

    assert doctor(plato.name, "--resolve", f"{plato.name}=127.0.0.2:{port}")[0] == 0
    assert doctor(plato.name, "--resolve", f"{plato.name}=127.0.0.2:{free_port()}")[0] == 1


def test_a_node_on_ipv6_is_examined(cluster, doctor):
    plato = cluster.beam("plato@::1", arguments=["-proto_dist", "inet6_tcp"])

    assert doctor(plato.name)[0] == 0


def test_a_global_that_does_not_answer_is_reported(cluster, doctor):
    plato = cluster.beam("plato")
    plato.eval("sys:suspend(global_name_server)")

    code, steps = doctor(plato.name)

    assert (code, steps["global"]["status"]) == (0, "note")
    assert "does not answer" in steps["global"]["summary"]
