"""TLS between this library and OTP: ``erl -proto_dist inet_tls -ssl_dist_optfile FILE``."""

import os

import pytest

from certificates import Authority
from erlmesh.certs.optfile import optfile_text
from polling import wait_until

HOST = "127.0.0.1"


class TlsCluster:
    """Starts nodes with TLS. Each has a certificate of ``authority`` for ``hosts``, unless it is told otherwise."""

    def __init__(self, cluster, folder):
        self.cluster = cluster
        self.authority = Authority(folder / "ca")
        self.foreign = Authority(folder / "foreign", "another CA")

    def beam(self, name, *, authority=None, hosts=(HOST,), expired=False, options=None, arguments=(), **more):
        signer = authority or self.authority
        cert, key = signer.write(f"beam-{name}", *hosts, expired=expired)
        optfile = signer.folder / f"{name}.conf"
        text = optfile_text(str(cert), str(key), str(self.authority.ca))
        optfile.write_text(options(text) if options else text)
        tls = ["-proto_dist", "inet_tls", "-ssl_dist_optfile", str(optfile)]
        return self.cluster.beam(name, arguments=[*tls, *arguments], **more)

    def python(self, name, *, authority=None, hosts=(HOST,), expired=False, tls=None, **more):
        signer = authority or self.authority
        cert, key = signer.write(f"python-{name}", *hosts, expired=expired)
        files = {"cert": os.fspath(cert), "key": os.fspath(key), "ca": os.fspath(self.authority.ca)}
        return self.cluster.pynode(name, tls=files | (tls or {}), **more)


@pytest.fixture
def tls(cluster, tmp_path):
    return TlsCluster(cluster, tmp_path)


def both_connect(beam, python):
    assert python.ping(beam.name)
    python.eval("node.disconnect(NAME)", NAME=beam.name)
    wait_until(lambda: beam.nodes() == set() and python.nodes() == set())
    assert beam.ping(python.name)
    wait_until(lambda: beam.nodes() == {python.name} and python.nodes() == {beam.name})


def test_nodes_connect_in_both_directions(tls, otp):
    both_connect(tls.beam("beam", otp=otp), tls.python("python"))
