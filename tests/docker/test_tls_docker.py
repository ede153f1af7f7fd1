"""``compose.tls.yaml``: containers that connect over TLS, also with Elixir, and that get new certificates."""

import os
import subprocess
import sys

from containers import ROOT

from otp.polling import wait_until

PYTHON_NODES = ("socrates", "plato", "aristotle")


def erlmesh(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-m", "erlmesh", *arguments], check=True, env=environment, capture_output=True)


def test_compose_with_tls_makes_a_mesh_with_elixir_and_takes_renewed_certificates(compose_tls, certificates):
    compose_tls.run("up", "--detach", "--no-build")

    for name in PYTHON_NODES:
        wait_until(lambda at=name: compose_tls.ask(at, "len(Node.list())") == "3", 60, what=f"{name} meets all")
        assert compose_tls.ask(name, "Node.self") == f':"{name}@{name}.agora"'
    compose_tls.ask("socrates", "diotima = Atom('diotima@diotima.agora')")
    assert compose_tls.ask("socrates", "len(rpc.call(diotima, :erlang, :nodes, []))") == "3"
    protocol = "rpc.call(diotima, :init, :get_argument, [:proto_dist])"
    assert "inet_tls" in compose_tls.ask("socrates", protocol)

    erlmesh("certs", "--dir", str(certificates), "--force", "--mounted-at", "/run/tls", "plato@plato.agora")
    (certificates / "plato@plato.agora" / "tls.key").chmod(0o444)
    compose_tls.ask("socrates", ':erlang.disconnect_node(:"plato@plato.agora")')

    assert compose_tls.ask("socrates", 'Node.ping(:"plato@plato.agora")') == ":pong"
    logs = compose_tls.run("logs", "--no-color", "plato")
    assert "cannot be used" not in logs


def test_a_node_without_a_certificate_of_the_ca_stays_outside(compose_tls):
    compose_tls.run("up", "--detach", "--no-build", "plato")
    container = compose_tls.container("plato")
    plain = ["docker", "exec", "--env", "ERLMESH_TLS_CERT=", "--env", "ERLMESH_TLS_KEY=", "--env", "ERLMESH_TLS_CA="]
    wait_until(
        lambda: subprocess.run(["docker", "exec", container, "erlmesh", "health"], check=False).returncode == 0, 30
    )

    with_tls = ["docker", "exec", container, "erlmesh", "ping", "plato@plato.agora"]
    assert subprocess.run(with_tls, capture_output=True, text=True, check=False).stdout.startswith("pong")
    without = subprocess.run(
        [*plain, container, "erlmesh", "ping", "plato@plato.agora"], capture_output=True, text=True, check=False
    )
    assert without.stdout == "pang\n"
    assert "TLS" in without.stderr
