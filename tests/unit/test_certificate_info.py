"""Reading the fields of certificates, also of damaged ones."""

import contextlib
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh.certs.certificate import pem_certificates, read_certificate
from erlmesh.certs.issue import issue_node_certificate, make_authority
from erlmesh.errors import CertificateError

NOW = datetime(2026, 12, 1, 10, 0, tzinfo=UTC)
YEAR = timedelta(days=365)
AUTHORITY = make_authority("our CA", NOW, YEAR)
ISSUED = issue_node_certificate(AUTHORITY, ["a@10.0.0.7", "b@::1", "c@node.example"], NOW, YEAR)
(DER,) = pem_certificates(ISSUED.certificate)


def test_the_fields_of_a_certificate_of_a_node_are_read():
    info = read_certificate(DER)

    assert (info.subject, info.issuer) == ("a@10.0.0.7", "our CA")
    assert (info.not_before, info.not_after) == (NOW - timedelta(minutes=5), NOW + YEAR)
    assert info.hosts == ("10.0.0.7", "::1", "node.example")
    assert info.purposes == ("serverAuth", "clientAuth")


def test_a_ca_has_no_hosts_and_no_purposes():
    (der,) = pem_certificates(AUTHORITY.certificate)

    info = read_certificate(der)

    assert (info.subject, info.issuer, info.hosts, info.purposes) == ("our CA", "our CA", (), None)


@pytest.mark.parametrize("year", [1999, 2049, 2050, 2100])
def test_years_are_read_in_both_forms(year):
    authority = make_authority("ours", datetime(year, 1, 1, tzinfo=UTC), timedelta(days=1))

    (der,) = pem_certificates(authority.certificate)

    assert read_certificate(der).not_after.year == year


def test_a_certificate_of_openssl_is_read(tmp_path):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k", "-out", "c", "-days", "7",
         "-subj", "/O=Agora/CN=plato", "-addext", "subjectAltName=DNS:plato.example,IP:10.1.2.3,email:a@b.c"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip

    (der,) = pem_certificates((tmp_path / "c").read_bytes())
    info = read_certificate(der)

    assert (info.subject, info.issuer, info.hosts) == ("plato", "plato", ("plato.example", "10.1.2.3"))
    assert info.not_after - info.not_before == timedelta(days=7)


def test_every_certificate_of_a_file_is_found():
    both = b"a comment\n" + ISSUED.certificate + b"\n" + AUTHORITY.certificate

    assert [read_certificate(der).subject for der in pem_certificates(both)] == ["a@10.0.0.7", "our CA"]
    assert pem_certificates(ISSUED.key) == []


def test_a_damaged_pem_block_is_an_error():
    with pytest.raises(CertificateError, match="damaged"):
        pem_certificates(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----")


@pytest.mark.parametrize("size", range(0, len(DER), 7))
def test_a_certificate_that_is_cut_off_is_an_error(size):
    with pytest.raises(CertificateError):
        read_certificate(DER[:size])


@given(st.integers(0, len(DER) - 1), st.integers(0, 255))
def test_a_changed_byte_changes_a_field_or_is_an_error(position, byte):
    damaged = bytearray(DER)
    damaged[position] = byte

    with contextlib.suppress(CertificateError):
        read_certificate(bytes(damaged))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_certificate_or_an_error(data):
    with contextlib.suppress(CertificateError):
        read_certificate(data)


def test_the_texts_of_a_certificate_are_printable_and_short():
    authority = make_authority("\x1b[31m", NOW, YEAR)
    forged = issue_node_certificate(authority, ["a@10.0.0.7"], NOW, YEAR)

    (der,) = pem_certificates(forged.certificate)

    assert read_certificate(der).issuer == r"\x1b[31m"
