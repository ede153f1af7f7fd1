"""Nodes of OTP connect over TLS with the certificates and the options file of ``erlmesh certs``."""

import pytest

from erlmesh.cli.main import main


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """The folder of ``erlmesh certs`` for socrates and plato."""
    folder = tmp_path_factory.mktemp("certs")
    assert main(["certs", "--dir", str(folder), "socrates@127.0.0.1", "plato@127.0.0.1"]) == 0
    return folder


def arguments(certificates, name):
    return ["-proto_dist", "inet_tls", "-ssl_dist_optfile", str(certificates / f"{name}@127.0.0.1" / "ssl_dist.conf")]


def test_two_nodes_of_otp_connect(cluster, certificates, otp):
    socrates, plato = (
        cluster.beam(name, otp=otp, arguments=arguments(certificates, name)) for name in ("socrates", "plato")
    )

    assert socrates.ping(plato.name)


def test_different_releases_connect_in_both_directions(cluster, certificates):
    socrates = cluster.beam("socrates", otp=25, arguments=arguments(certificates, "socrates"))
    plato = cluster.beam("plato", otp=27, arguments=arguments(certificates, "plato"))

    assert socrates.ping(plato.name)
    socrates.eval("erlang:disconnect_node(Name)", Name=plato.atom)
    assert plato.ping(socrates.name)


def test_a_node_with_a_certificate_of_another_ca_is_refused(cluster, certificates, tmp_path):
    main(["certs", "--dir", str(tmp_path), "plato@127.0.0.1"])
    socrates = cluster.beam("socrates", otp=25, arguments=arguments(certificates, "socrates"))
    plato = cluster.beam("plato", otp=25, arguments=arguments(tmp_path, "plato"))

    assert not plato.ping(socrates.name)
    assert not socrates.ping(plato.name)
