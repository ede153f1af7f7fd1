"""``erlmesh certs``: what it writes, that OpenSSL accepts it, and what it refuses."""

import ssl
import stat
import sys
from datetime import UTC, datetime, timedelta

import pytest
from tls_nodes import shake_hands

from erlmesh.certs.folder import CertificateFolder
from erlmesh.certs.issue import issue_node_certificate, make_authority
from erlmesh.certs.optfile import optfile_text
from erlmesh.cli.main import main
from erlmesh.errors import CertificateError

NOW = datetime.now(UTC).replace(microsecond=0)
YEAR = timedelta(days=365)
SOCRATES, PLATO = "socrates@127.0.0.1", "plato@127.0.0.1"


def certs(folder, *arguments):
    """The exit code of ``erlmesh certs --dir FOLDER …``."""
    return main(["certs", "--dir", str(folder), *arguments])


def context(folder, node, purpose=ssl.Purpose.SERVER_AUTH):
    """A context with the certificate of a node that demands one of the peer."""
    made = ssl.create_default_context(purpose, cafile=folder / node / "ca.crt")
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_cert_chain(folder / node / "tls.crt", folder / node / "tls.key")
    return made


def peer_certificates(client, server, host):
    """The certificates that client and server see."""
    return [end.getpeercert() for end in shake_hands(client, server, host)]


def mutual_handshake(folder, client, server):
    host = server.partition("@")[2]
    return peer_certificates(context(folder, client), context(folder, server, ssl.Purpose.CLIENT_AUTH), host)


def test_two_nodes_accept_each_other(tmp_path):
    assert certs(tmp_path, SOCRATES, PLATO) == 0

    seen_by_client, seen_by_server = mutual_handshake(tmp_path, SOCRATES, PLATO)
    assert seen_by_client["subject"] == ((("commonName", PLATO),),)
    assert seen_by_server["subject"] == ((("commonName", SOCRATES),),)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "node-0.nodes.example", "short"])
def test_the_host_of_the_node_is_checked(tmp_path, host):
    certs(tmp_path, f"plato@{host}", "socrates@192.0.2.7")

    mutual_handshake(tmp_path, "socrates@192.0.2.7", f"plato@{host}")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|doesn't match|not valid for"):
        peer_certificates(
            context(tmp_path, "socrates@192.0.2.7"),
            context(tmp_path, f"plato@{host}", ssl.Purpose.CLIENT_AUTH),
            "other.example",
        )


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("10.0.0.7", [("DNS", "10.0.0.7"), ("IP Address", "10.0.0.7")]),
        ("::1", [("DNS", "::1"), ("IP Address", "0:0:0:0:0:0:0:1")]),
        ("node-0.nodes", [("DNS", "node-0.nodes")]),
    ],
)
def test_an_address_is_a_dns_entry_too_because_otp_25_looks_there(tmp_path, host, names):
    certs(tmp_path, f"plato@{host}", SOCRATES)

    seen, _ = mutual_handshake(tmp_path, SOCRATES, f"plato@{host}")

    assert list(seen["subjectAltName"]) == names


def test_one_certificate_can_have_the_hosts_of_several_nodes(tmp_path):
    certs(tmp_path, "--shared", "pods", "a@10.0.0.1", "b@10.0.0.2", "c@10.0.0.1")

    ends = context(tmp_path, "pods"), context(tmp_path, "pods", ssl.Purpose.CLIENT_AUTH)
    for host in ("10.0.0.1", "10.0.0.2"):
        seen, _ = peer_certificates(*ends, host)
        assert len(seen["subjectAltName"]) == 4


def test_a_certificate_of_another_ca_is_refused(tmp_path):
    for name in ("ours", "theirs"):
        certs(tmp_path / name, SOCRATES)

    with pytest.raises(ssl.SSLCertVerificationError):
        peer_certificates(
            context(tmp_path / "ours", SOCRATES),
            context(tmp_path / "theirs", SOCRATES, ssl.Purpose.CLIENT_AUTH),
            "127.0.0.1",
        )


def test_the_keys_are_secret_and_the_rest_is_not(tmp_path):
    certs(tmp_path, SOCRATES)

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.rglob("*.*") if file.is_file()}
    assert modes == {
        "ca.key": 0o600,
        "tls.key": 0o600,
        "ca.crt": 0o644,
        "tls.crt": 0o644,
        "ssl_dist.conf": 0o644,
    }


def test_the_validity_is_as_asked_and_begins_before_now(tmp_path):
    certs(tmp_path, "--days", "7", "--ca-days", "30", SOCRATES)

    seen, _ = mutual_handshake(tmp_path, SOCRATES, SOCRATES)

    starts, ends = (ssl.cert_time_to_seconds(seen[key]) for key in ("notBefore", "notAfter"))
    assert ends - starts == timedelta(days=7, minutes=5).total_seconds()
    (authority,) = context(tmp_path, SOCRATES).get_ca_certs()
    starts, ends = (ssl.cert_time_to_seconds(authority[key]) for key in ("notBefore", "notAfter"))
    assert ends - starts == timedelta(days=30, minutes=5).total_seconds()


def test_a_certificate_ends_with_its_ca_at_the_latest(tmp_path, capsys):
    certs(tmp_path, "--ca-days", "30", "--days", "60", SOCRATES)

    assert ", when the CA expires" in capsys.readouterr().out
    seen, _ = mutual_handshake(tmp_path, SOCRATES, SOCRATES)
    (authority,) = context(tmp_path, SOCRATES).get_ca_certs()
    assert seen["notAfter"] == authority["notAfter"]


def test_an_expired_ca_signs_nothing():
    authority = make_authority("old", NOW - 2 * YEAR, YEAR)

    with pytest.raises(CertificateError, match="the CA expired on"):
        issue_node_certificate(authority, [SOCRATES], NOW, YEAR)


def test_every_certificate_has_its_own_serial_number(tmp_path):
    certs(tmp_path, SOCRATES, PLATO)

    serials = {seen["serialNumber"] for seen in mutual_handshake(tmp_path, SOCRATES, PLATO)}
    (authority,) = context(tmp_path, SOCRATES).get_ca_certs()
    assert len({authority["serialNumber"], *serials}) == 3


def test_a_certificate_of_a_node_cannot_sign_others(tmp_path):
    """OpenSSL refuses a chain that goes through it."""
    authority = make_authority("ours", NOW, YEAR)
    node = issue_node_certificate(authority, [SOCRATES], NOW, YEAR)
    forged = issue_node_certificate(node, [PLATO], NOW, YEAR)
    certs(tmp_path, SOCRATES)
    server = tmp_path / SOCRATES
    (server / "tls.crt").write_bytes(forged.certificate + node.certificate)
    (server / "tls.key").write_bytes(forged.key)
    client = ssl.create_default_context(cadata=authority.certificate.decode())

    with pytest.raises(ssl.SSLCertVerificationError, match="invalid CA"):
        peer_certificates(client, _server_without_verification(server), "127.0.0.1")


def _server_without_verification(folder):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return made


def test_nothing_is_overwritten_without_force(tmp_path, capsys):
    certs(tmp_path, SOCRATES)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}

    assert certs(tmp_path, PLATO, SOCRATES) == 1

    assert "--force replaces them" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()} == before


def test_force_renews_the_certificate_from_the_same_ca(tmp_path):
    certs(tmp_path, SOCRATES, PLATO)
    authority, key = (tmp_path / "ca.crt").read_bytes(), (tmp_path / SOCRATES / "tls.key").read_bytes()

    assert certs(tmp_path, "--force", SOCRATES) == 0

    assert (tmp_path / "ca.crt").read_bytes() == authority
    assert (tmp_path / SOCRATES / "tls.key").read_bytes() != key
    mutual_handshake(tmp_path, SOCRATES, PLATO)
    assert not list(tmp_path.rglob(".*"))


def test_without_nodes_only_a_ca_is_made(tmp_path):
    assert certs(tmp_path) == 0

    assert sorted(file.name for file in tmp_path.iterdir()) == ["ca.crt", "ca.key"]


def test_half_a_ca_is_refused(tmp_path, capsys):
    certs(tmp_path)
    (tmp_path / "ca.key").unlink()

    assert certs(tmp_path, SOCRATES) == 1

    assert "has ca.crt, but not the other one" in capsys.readouterr().err
    assert not (tmp_path / SOCRATES).exists()


@pytest.mark.parametrize(
    ("content", "text"), [(b"x", "is damaged"), (None, "ca.key is not the key of ca.crt")], ids=["damaged", "foreign"]
)
def test_a_wrong_key_of_the_ca_is_refused(tmp_path, capsys, content, text):
    certs(tmp_path / "ours")
    certs(tmp_path / "theirs")
    (tmp_path / "ours" / "ca.key").write_bytes(content or (tmp_path / "theirs" / "ca.key").read_bytes())

    assert certs(tmp_path / "ours", SOCRATES) == 1

    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--days", "0", SOCRATES], 2, "--days is a number of days"),
        (["--ca-days", "x"], 1, "--ca-days is 'x'"),
        (["--shared", "pods"], 2, "--shared needs the nodes"),
        (["--shared", "../pods", SOCRATES], 2, "--shared is the name of a folder"),
        (["a@b@c"], 1, "is not a node name"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_made(tmp_path, capsys, arguments, code, text):
    assert certs(tmp_path / "made", *arguments) == code

    assert text in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_a_node_without_a_host_gets_the_loopback_address(tmp_path):
    certs(tmp_path, "socrates")

    assert (tmp_path / SOCRATES / "tls.crt").exists()


def test_the_output_says_how_to_start_nodes(tmp_path, capsys):
    certs(tmp_path, SOCRATES)

    said = capsys.readouterr().out
    assert f"erlmesh start --name {SOCRATES} --tls-cert {tmp_path / SOCRATES / 'tls.crt'} " in said
    optfile = tmp_path / SOCRATES / "ssl_dist.conf"
    assert f"erl -name {SOCRATES} -proto_dist inet_tls -ssl_dist_optfile {optfile}" in said


def test_other_kinds_of_names_get_the_right_options_of_erl(tmp_path, capsys):
    certs(tmp_path, "socrates@here")
    certs(tmp_path, "plato@::1")

    said = capsys.readouterr().out
    assert "erl -sname socrates@here -proto_dist inet_tls" in said
    assert "erl -name plato@::1 -proto_dist inet6_tls" in said


def test_the_options_of_otp_name_the_files_where_the_node_sees_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["certs", SOCRATES])
    main(["certs", "--mounted-at", "/etc/erlmesh/tls", PLATO])

    assert (
        f'{{keyfile, "{tmp_path}/certs/{SOCRATES}/tls.key"}}'
        in (tmp_path / "certs" / SOCRATES / "ssl_dist.conf").read_text()
    )
    assert '{certfile, "/etc/erlmesh/tls/tls.crt"}' in (tmp_path / "certs" / PLATO / "ssl_dist.conf").read_text()


def test_paths_are_quoted_as_erlang_does():
    assert '{certfile, "/a \\"b\\\\c"}' in optfile_text('/a "b\\c', "/k", "/ca")


def test_without_cryptography_the_error_says_what_to_install(tmp_path, capsys, monkeypatch):
    for module in [name for name in sys.modules if name.startswith("erlmesh.certs.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "cryptography", None)

    assert certs(tmp_path / "made", SOCRATES) == 1

    assert "pip install 'erlmesh[certs]'" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path, capsys):
    (tmp_path / "file").touch()

    assert certs(tmp_path / "file" / "certs", SOCRATES) == 1

    assert "erlmesh: Not a directory" in capsys.readouterr().err


def test_a_long_node_name_is_cut_in_the_subject_only(tmp_path):
    node = f"{'n' * 70}@127.0.0.1"
    certs(tmp_path, node)

    seen, _ = mutual_handshake(tmp_path, node, node)

    assert seen["subject"] == ((("commonName", "n" * 64),),)


def test_two_cas_without_a_name_have_different_ones(tmp_path):
    for name in ("ours", "theirs"):
        CertificateFolder(tmp_path / name).make_authority(None, NOW, YEAR)

    names = {
        str(ssl.create_default_context(cafile=tmp_path / name / "ca.crt").get_ca_certs()[0]["subject"])
        for name in ("ours", "theirs")
    }
    assert len(names) == 2
