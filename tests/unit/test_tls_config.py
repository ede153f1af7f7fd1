"""The TLS files of a node: what is wrong with them, and what happens when they change."""

import logging
import ssl

import pytest
from tls_nodes import shake_hands

from certificates import Authority
from erlmesh import NodeStartError, TlsConfig
from erlmesh.net.tls_contexts import TlsContexts
from erlmesh.net.tls_self_check import own_certificate_problem


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def handshake(accepting, initiating):
    """Connect the two contexts in memory. Return both ends."""
    return shake_hands(initiating, accepting, "plato.example")


def test_both_sides_show_certificates_with_the_highest_version(authority):
    pair = TlsContexts(authority.tls("plato", "plato.example")).load()

    client, server = handshake(*pair)

    assert client.version() == server.version() == "TLSv1.3"
    assert client.getpeercert()["subjectAltName"] == server.getpeercert()["subjectAltName"]


def test_a_peer_without_a_certificate_is_refused(authority):
    pair = TlsContexts(authority.tls("plato", "plato.example")).load()
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname = False
    anonymous.load_verify_locations(authority.ca)

    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(pair.accepting, anonymous)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_oldest_version_can_be_chosen(authority, version):
    pair = TlsContexts(authority.tls("plato", "plato.example", minimum_version=version)).load()
    pair.initiating.maximum_version = ssl.TLSVersion.TLSv1_2

    if version == "1.2":
        assert handshake(*pair)[0].version() == "TLSv1.2"
    else:
        with pytest.raises(ssl.SSLError):
            handshake(*pair)


def test_no_session_is_resumed_with_a_ticket(authority):
    pair = TlsContexts(authority.tls("plato", "plato.example")).load()

    client, _ = handshake(*pair)

    assert pair.accepting.num_tickets == 0
    assert client.session is None or not client.session.has_ticket


@pytest.mark.parametrize("name", ["cert", "key", "ca"])
def test_a_missing_file_is_named(authority, name):
    config = authority.tls("plato", "plato.example")
    getattr(config, name).unlink()

    with pytest.raises(NodeStartError, match=rf"{getattr(config, name).name} does not exist"):
        TlsContexts(config).load()


def test_a_file_that_cannot_be_read_is_named(authority, monkeypatch):
    config = authority.tls("plato", "plato.example")
    config.key.unlink()
    config.key.mkdir()

    with pytest.raises(NodeStartError, match=r"the TLS key file .*plato\.key cannot be read: Is a directory"):
        TlsContexts(config).load()


def test_a_key_of_another_certificate_is_refused(authority):
    plato, socrates = authority.tls("plato"), authority.tls("socrates")

    with pytest.raises(NodeStartError, match=r"socrates\.key does not belong to the certificate .*plato\.pem"):
        TlsContexts(TlsConfig(cert=plato.cert, key=socrates.key, ca=plato.ca)).load()


@pytest.mark.parametrize(
    ("name", "text"),
    [("cert", "has no certificate in PEM"), ("key", "has no private key in PEM"), ("ca", "has no valid certificate")],
)
def test_a_file_with_something_else_is_refused(authority, name, text):
    config = authority.tls("plato")
    getattr(config, name).write_text("something else")

    with pytest.raises(NodeStartError, match=text):
        TlsContexts(config).load()


def test_a_certificate_of_a_node_is_no_authority(authority):
    config = authority.tls("plato")

    with pytest.raises(NodeStartError, match="is one of a CA"):
        TlsContexts(TlsConfig(cert=config.cert, key=config.key, ca=config.cert)).load()


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(authority):
    cert, key = authority.write("plato", password=b"secret")

    with pytest.raises(NodeStartError, match=r"plato\.key has a passphrase"):
        TlsContexts(TlsConfig(cert=cert, key=key, ca=authority.ca)).load()


def test_new_files_are_used_for_the_next_connection(authority, caplog):
    caplog.set_level(logging.INFO, "erlmesh")
    contexts = TlsContexts(authority.tls("plato", "old.example"))
    contexts.load()
    authority.write("plato", "new.example")

    client, _ = handshake(*contexts.current())

    assert client.getpeercert()["subjectAltName"] == (("DNS", "new.example"),)
    assert "new connections use the new ones" in caplog.text


def test_unchanged_files_are_not_read_again(authority):
    contexts = TlsContexts(authority.tls("plato"))

    assert contexts.load() is contexts.current() is contexts.current()


def test_a_bad_new_file_keeps_the_old_one_and_is_logged_once(authority, caplog):
    contexts = TlsContexts(authority.tls("plato", "old.example"))
    old = contexts.load()
    contexts.config.cert.write_text("half a certif")

    assert contexts.current() is old
    assert contexts.current() is old
    assert caplog.text.count("the old ones stay in use") == 1
    assert "has no certificate in PEM format" in caplog.text


def test_a_certificate_and_a_key_that_are_replaced_one_after_the_other_are_used_when_both_are_there(authority):
    config = authority.tls("plato", "old.example")
    contexts = TlsContexts(config)
    old = contexts.load()
    old_key = config.key.read_bytes()
    authority.write("plato", "new.example")
    new_key = config.key.read_bytes()
    config.key.write_bytes(old_key)
    assert contexts.current() is old

    config.key.write_bytes(new_key)

    assert contexts.current() is not old


@pytest.mark.parametrize("options", [{"minimum_version": "1.1"}, {"cert": ""}, {"ca": None}])
def test_a_wrong_value_raises_at_the_call(options):
    with pytest.raises(ValueError, match="of TlsConfig"):
        TlsConfig(**{"cert": "a", "key": "b", "ca": "c", **options})


def problem(authority, *hosts, **options):
    return own_certificate_problem(TlsContexts(authority.tls("plato", *hosts, **options)).load(), "127.0.0.1")


def test_a_good_certificate_has_no_problem(authority):
    assert problem(authority, "127.0.0.1") is None


def test_a_certificate_that_other_nodes_will_refuse_is_found_at_the_start(authority, tmp_path):
    foreign = Authority(tmp_path / "foreign").tls("plato", "127.0.0.1")
    mixed = TlsConfig(cert=foreign.cert, key=foreign.key, ca=authority.ca)

    expired = problem(authority, "127.0.0.1", expired=True)
    misnamed = problem(authority, "plato.example")
    untrusted = own_certificate_problem(TlsContexts(mixed).load(), "127.0.0.1")

    assert "this node's TLS certificate has expired: renew it. Other nodes will refuse it" in expired
    assert "is for plato.example, and not for 127.0.0.1" in misnamed
    contexts = TlsContexts(authority.tls("plato", "plato.example")).load()
    assert own_certificate_problem(contexts, "127.0.0.1", is_called=False) is None
    assert "is not signed by a CA that this node trusts" in untrusted
