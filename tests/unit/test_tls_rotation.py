"""A secret of Kubernetes is replaced while a node runs: all files at once, behind a symbolic link."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest

from erlmesh import TlsConfig
from erlmesh.certs.certificate import read_certificate
from erlmesh.certs.folder import CertificateFolder
from erlmesh.net.tls_contexts import TlsContexts

FILES = ("tls.crt", "tls.key", "ca.crt")


class MountedSecret:
    """The folder that kubelet makes: ``tls.crt`` → ``..data/tls.crt``, and ``..data`` → a folder with a date."""

    def __init__(self, path, source):
        self.path = path
        path.mkdir()
        self.replace(source)
        for name in FILES:
            (path / name).symlink_to(f"..data/{name}")

    def replace(self, source):
        """Write the new files into a new folder, then rename a new link over ``..data``."""
        folder = self.path / f"..{len(list(self.path.iterdir()))}"
        folder.mkdir()
        for name in FILES:
            (folder / name).write_bytes((source / name).read_bytes())
        new = self.path / "..data_tmp"
        new.symlink_to(folder.name)
        new.rename(self.path / "..data")


def issuer_and_expiry(contexts):
    """What a client sees of the certificate that the accepting context shows now."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    server = contexts.current().accepting
    one_way, other_way = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(one_way, other_way), server.wrap_bio(other_way, one_way, server_side=True)]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLError:  # it wants more data, or in the end a certificate of the client
                continue
    info = read_certificate(ends[0].getpeercert(binary_form=True))
    return info.issuer, info.not_after


@pytest.fixture
def certs(tmp_path):
    """Issues certificates of plato that are valid for some days."""
    folder = CertificateFolder(tmp_path / "certs")
    now = datetime.now(UTC).replace(microsecond=0)
    folder.make_authority("our CA", now, timedelta(days=100))

    def issue(days):
        expires = folder.issue("plato", ["plato@10.0.0.7"], now, timedelta(days=days)).expires
        return folder.path / "plato", expires

    return issue


def test_the_next_connection_uses_the_files_of_the_new_secret(tmp_path, certs):
    source, old = certs(10)
    secret = MountedSecret(tmp_path / "mounted", source)
    contexts = TlsContexts(
        TlsConfig(cert=secret.path / "tls.crt", key=secret.path / "tls.key", ca=secret.path / "ca.crt")
    )
    contexts.load()
    assert issuer_and_expiry(contexts) == ("our CA", old)

    source, new = certs(20)
    secret.replace(source)

    assert new != old
    assert issuer_and_expiry(contexts) == ("our CA", new)
