"""A trial of TLS with commands only: certificates, two nodes, and questions to them."""

import pytest


@pytest.fixture
def files(erlmesh, tmp_path):
    """``files(NODE)``: the options with the certificate of a node, as `erlmesh certs` prints them."""
    code, said, _ = erlmesh.run("certs", "--dir", str(tmp_path / "certs"), "socrates", "plato", "me")
    assert code == 0
    assert "erlmesh start --name socrates@127.0.0.1 --tls-cert" in said

    def options(name):
        folder = tmp_path / "certs" / f"{name}@127.0.0.1"
        return ["--tls-cert", folder / "tls.crt", "--tls-key", folder / "tls.key", "--tls-ca", folder / "ca.crt"]

    return lambda name: [str(each) for each in options(name)]


def test_two_nodes_and_commands_connect_over_tls(erlmesh, files):
    erlmesh.start("start", "--name", "socrates", *files("socrates")).wait_for("is up")
    plato = erlmesh.start("shell", "--name", "plato", "--join", "socrates", *files("plato"))

    assert plato.ask("Node.list") == '[:"socrates@127.0.0.1"]'
    code, said, _ = erlmesh.run("ping", "socrates", *files("me"))
    assert (code, said[:5]) == (0, "pong ")
    code, said, _ = erlmesh.run("doctor", "socrates", "--name", "me", *files("me"))
    assert code == 0
    assert "✓ certificate our certificate is for 127.0.0.1" in said
    assert "✓ tls         TLS 1.3; its certificate is from 'erlmesh CA" in said


def test_ping_without_certificates_says_that_the_node_uses_tls(erlmesh, files):
    erlmesh.start("start", "--name", "socrates", *files("socrates")).wait_for("is up")

    code, said, error = erlmesh.run("ping", "socrates")

    assert (code, said) == (1, "pang\n")
    assert "TLS" in error


def test_ping_with_certificates_of_another_ca_says_so(erlmesh, files, tmp_path):
    erlmesh.run("certs", "--dir", str(tmp_path / "other"), "me")
    erlmesh.start("start", "--name", "socrates", *files("socrates")).wait_for("is up")
    foreign = [each.replace("/certs/", "/other/") for each in files("me")]

    code, _, error = erlmesh.run("ping", "socrates", *foreign)

    assert code == 1
    assert "is not signed by a CA that this node trusts" in error


def test_a_renewed_certificate_is_used_without_a_restart(erlmesh, files, tmp_path):
    socrates = erlmesh.start("start", "--name", "socrates", "--verbose", *files("socrates"))
    socrates.wait_for("is up")

    assert erlmesh.run("certs", "--dir", str(tmp_path / "certs"), "--force", "socrates")[0] == 0
    code, said, _ = erlmesh.run("doctor", "socrates", *files("me"))

    assert code == 0, said
    socrates.wait_for("the TLS files have changed: new connections use the new ones")


def test_a_command_says_nothing_about_the_host_of_its_certificate(erlmesh, files, tmp_path):
    """The command has a name of its own on 127.0.0.1, and no node connects to it."""
    erlmesh.run("certs", "--dir", str(tmp_path / "certs"), "--shared", "me@127.0.0.1", "--force", "me@10.0.0.8")
    erlmesh.start("start", "--name", "socrates", *files("socrates")).wait_for("is up")

    code, said, error = erlmesh.run("ping", "socrates", *files("me"))

    assert (code, said[:5], error) == (0, "pong ", "")
