"""Which hosts a certificate fits."""

import pytest

from erlmesh.core.certificate_hosts import fits_host, hosts_of


def certificate(*entries, common_name="somebody"):
    return {
        "subject": ((("countryName", "GR"),), (("commonName", common_name),)),
        "subjectAltName": entries,
    }


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        (("DNS", "plato.example"), "plato.example"),
        (("DNS", "PLATO.example"), "plato.EXAMPLE"),
        (("DNS", "plato"), "plato"),
        (("DNS", "127.0.0.1"), "127.0.0.1"),
        (("IP Address", "127.0.0.1"), "127.0.0.1"),
        (("IP Address", "0:0:0:0:0:0:0:1"), "::1"),
        (("IP Address", "FE80:0:0:0:0:0:0:1"), "fe80::1%eth0"),
        (("DNS", "*.nodes.example"), "plato.nodes.example"),
    ],
)
def test_a_certificate_fits_the_hosts_that_it_names(entry, host):
    assert fits_host(certificate(("DNS", "other.example"), entry), host)


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        (("DNS", "plato.example"), "socrates.example"),
        (("DNS", "plato.example"), "example"),
        (("DNS", "plato"), "plato.example"),
        (("IP Address", "127.0.0.1"), "127.0.0.2"),
        (("email", "plato.example"), "plato.example"),
        (("DNS", "*.example"), "a.b.example"),
        (("DNS", "*.example"), "example"),
        (("DNS", "*.0.0.1"), "127.0.0.1"),
        (("DNS", "*"), "plato"),
        (("DNS", "pl*.example"), "plato.example"),
        (("DNS", "*.plato"), ".plato"),
    ],
)
def test_a_certificate_fits_no_other_host(entry, host):
    assert not fits_host(certificate(entry), host)


def test_the_common_name_counts_only_without_other_names():
    assert fits_host(certificate(common_name="plato.example"), "plato.example")
    assert not fits_host(certificate(("DNS", "other.example"), common_name="plato.example"), "plato.example")


def test_a_certificate_may_name_nothing():
    assert hosts_of({}) == []
    assert not fits_host({}, "plato.example")
