"""The doctor's findings about certificates and TLS."""

from datetime import UTC, datetime, timedelta

import pytest

from erlmesh import TlsConfig
from erlmesh.certs.certificate import CertificateInfo
from erlmesh.certs.folder import CertificateFolder
from erlmesh.doctor.certificate_checks import OwnCertificate, TlsOutcome, check_own_certificate, check_tls
from erlmesh.doctor.findings import Status
from erlmesh.doctor.tls_probe import read_own_certificate

NOW = datetime(2026, 12, 1, 10, 0, tzinfo=UTC)
DAY = timedelta(days=1)
PLATO = "plato@10.0.0.7"


def certificate(*, start=-1, days=100, hosts=("10.0.0.7",)):
    return CertificateInfo(PLATO, "our CA", NOW + start * DAY, NOW + (start + days) * DAY, hosts, None)


def own(local_name=PLATO, **options):
    given = {"info": certificate(), "authorities": ["our CA"], "key_file": "tls.key", **options}
    return check_own_certificate(OwnCertificate(**given), local_name, NOW)


def peer(**options):
    return check_tls(PLATO, TlsOutcome(**{"version": "TLSv1.3", "info": certificate(), **options}), ["our CA"], NOW)


def test_a_good_certificate_of_our_own_is_fine():
    finding = own()

    assert finding.status is Status.OK
    assert finding.summary == "our certificate is for 10.0.0.7, from 'our CA', valid until 2027-03-10"


def test_files_that_cannot_be_used_are_a_failure_in_the_words_of_the_node():
    finding = own(problem="the TLS key file /k does not exist", info=None)

    assert finding.status is Status.FAILED
    assert finding.summary == "the TLS key file /k does not exist"


@pytest.mark.parametrize(("start", "days", "text"), [(-9, 8, "expired on 2026-11-30"), (2, 9, "is not valid before")])
def test_a_certificate_of_another_time_is_a_failure(start, days, text):
    finding = own(info=certificate(start=start, days=days))

    assert finding.status is Status.FAILED
    assert text in finding.summary


@pytest.mark.parametrize(("days", "status"), [(30, Status.NOTE), (32, Status.OK)])
def test_a_certificate_that_expires_within_30_days_is_a_note(days, status):
    assert own(info=certificate(days=days)).status is status
    assert peer(info=certificate(days=days)).status is status


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"info": certificate(hosts=("10.0.0.8",))}, "It is not for 10.0.0.7, the host of plato@10.0.0.7"),
        ({"verify_code": 20}, "Our own CAs (our CA) do not accept it"),
        ({"is_key_exposed": True}, "Other users of this machine can read the key tls.key"),
    ],
)
def test_what_others_may_refuse_is_a_note_with_an_advice(options, text):
    finding = own(**options)

    assert finding.status is Status.NOTE
    assert text in finding.explanation
    assert len(finding.advice) == 1


def test_several_remarks_have_one_advice_each():
    finding = own(info=certificate(days=9, hosts=()), verify_code=20, is_key_exposed=True)

    assert len(finding.advice) == 4


def test_without_a_name_of_our_own_the_hosts_do_not_matter():
    assert own(None, info=certificate(hosts=("10.0.0.8",))).status is Status.OK


def test_a_good_connection_is_fine_and_says_the_version():
    finding = peer()

    assert finding.status is Status.OK
    assert finding.summary == "TLS 1.3; its certificate is from 'our CA', valid until 2027-03-10"


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        ({"verify_code": 10}, "expired on 2027-03-10"),
        ({"verify_code": 9}, "is not valid before 2026-11-30"),
        ({"verify_code": 20}, "signed by 'our CA', which is not one of our CAs"),
        ({"verify_code": 18}, "which is not one of our CAs"),
        ({"verify_code": 20, "info": None}, "signed by another CA"),
        ({"verify_code": 26}, "not for a TLS server"),
        ({"verify_code": 99, "verify_message": "odd"}, "is not valid: odd"),
        ({"alert": "CERTIFICATE_REQUIRED"}, "requires a certificate, and we sent none"),
        ({"alert": "UNKNOWN_CA"}, "does not know the CA of our certificate"),
        ({"alert": "CERTIFICATE_EXPIRED"}, "our certificate has expired"),
        ({"alert": "INSUFFICIENT_SECURITY"}, "refused the connection: insufficient security"),
        ({"version": None, "error": "wrong version number"}, "the TLS handshake failed: wrong version number"),
        ({"info": certificate(hosts=("10.0.0.8", "b"))}, "is for 10.0.0.8, b, not for 10.0.0.7"),
        ({"info": certificate(hosts=())}, "is for no host, not for 10.0.0.7"),
        ({"is_plain": True, "version": None}, "expects plain TCP, but we connected with TLS"),
    ],
)
def test_every_failure_has_an_explanation_and_advice(outcome, text):
    finding = peer(**outcome)

    assert finding.status is Status.FAILED
    assert text in finding.summary
    assert finding.explanation
    assert finding.advice


def test_the_host_of_the_node_does_not_matter_if_it_is_not_to_be_verified():
    outcome = TlsOutcome("TLSv1.2", certificate(hosts=("10.0.0.8",)))

    assert check_tls(PLATO, outcome, [], NOW, verify_host=False).status is Status.OK


# Reading the files


@pytest.fixture
def files(tmp_path):
    """The files of plato, and how to change one of them."""
    folder = CertificateFolder(tmp_path / "ours")
    now = datetime.now(UTC)
    folder.make_authority("our CA", now, 10 * DAY)
    folder.issue("plato", [PLATO], now, 5 * DAY)
    at = folder.path / "plato"
    return lambda **changed: TlsConfig(
        **{"cert": at / "tls.crt", "key": at / "tls.key", "ca": at / "ca.crt", **changed}
    )


def test_our_own_files_are_read(files):
    found = read_own_certificate(files())

    assert (found.problem, found.verify_code, found.is_key_exposed) == ("", 0, False)
    assert (found.info.subject, found.authorities) == (PLATO, ["our CA"])


def test_a_ca_file_that_does_not_accept_our_certificate_is_found(files, tmp_path):
    CertificateFolder(tmp_path / "theirs").make_authority(None, datetime.now(UTC), DAY)

    found = read_own_certificate(files(ca=tmp_path / "theirs" / "ca.crt"))

    assert found.problem == ""
    assert found.verify_code == 20


@pytest.mark.parametrize(("mode", "exposed"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_a_key_that_everybody_can_read_is_found(files, mode, exposed):
    config = files()
    config.key.chmod(mode)

    assert read_own_certificate(config).is_key_exposed is exposed


def test_a_damaged_certificate_is_a_problem(files, tmp_path):
    (tmp_path / "damaged").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")

    assert "damaged" in read_own_certificate(files(cert=tmp_path / "damaged")).problem
