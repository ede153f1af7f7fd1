"""The findings of the doctor's steps."""

import pytest

from erlmesh.doctor import address_checks, service_checks
from erlmesh.doctor.findings import ProbeFailure, Status
from erlmesh.doctor.handshake_checks import (
    HandshakeTranscript,
    check_handshake,
    identify_protocol,
    otp_generation,
    parse_handshake,
)
from erlmesh.proto import handshake_packets as packets
from erlmesh.proto.epmd import PortInfo
from erlmesh.proto.flags import OFFERED, Flags

PLATO = "plato@10.0.0.7"
OK, NOTE, FAILED = Status.OK, Status.NOTE, Status.FAILED


def packet(body):
    return len(body).to_bytes(2, "big") + body


CHALLENGE = packet(packets.encode_challenge(OFFERED, 7, 5, PLATO))
PEER_PACKETS = packet(b"sok") + CHALLENGE + packet(b"a" + bytes(16))


@pytest.mark.parametrize(
    ("target", "local_name", "status"),
    [
        (PLATO, None, OK),
        (PLATO, "a@b.c", OK),
        ("a@::1", PLATO, OK),
        ("a@b", "c@d", OK),
        (PLATO, "a@b", FAILED),
        ("a@b", PLATO, FAILED),
        ("a", None, FAILED),
    ],
)
def test_long_and_short_names_do_not_match(target, local_name, status):
    assert address_checks.check_name(target, local_name).status is status


@pytest.mark.parametrize(
    ("host", "addresses", "status"),
    [
        ("10.0.0.7", ["10.0.0.7"], OK),
        ("host", ["10.0.0.7", "fe80::1%eth0"], OK),
        ("localhost", ["127.0.0.1", "::1"], OK),
        ("host", ["127.0.1.1"], NOTE),
        ("host", [], FAILED),
    ],
)
def test_a_host_must_resolve_to_an_address(host, addresses, status):
    assert address_checks.check_addresses(host, addresses, "unknown host").status is status


@pytest.mark.parametrize("failure", list(ProbeFailure))
def test_every_failure_of_epmd_has_an_explanation_and_advice(failure):
    finding = address_checks.check_epmd("host", 4369, None, failure, "observed text")

    assert finding.status is FAILED
    assert finding.explanation
    assert finding.advice


def test_an_otp_22_node_is_recognized_from_its_epmd_entry():
    assert address_checks.check_registration(PLATO, PortInfo(9100, False, 6, 5), {}).status is OK
    assert "OTP 22" in address_checks.check_registration(PLATO, PortInfo(9100, False, 5, 5), {}).explanation


def test_a_port_is_reachable_if_one_address_accepts():
    assert address_checks.check_port("h", 1, {"a": ProbeFailure.REFUSED, "b": None}, from_epmd=True).status is OK
    refused = address_checks.check_port(
        "h", 1, {"a": ProbeFailure.REFUSED, "b": ProbeFailure.NO_RESPONSE}, from_epmd=True
    )
    no_response = address_checks.check_port("h", 1, {"a": ProbeFailure.NO_RESPONSE}, from_epmd=True)

    assert "another interface" in refused.explanation
    assert "firewall" in no_response.explanation
    assert "EPMD" not in address_checks.check_port("h", 1, {"a": ProbeFailure.NO_RESPONSE}, from_epmd=False).summary


def test_an_incomplete_handshake_is_parsed_as_far_as_possible():
    assert parse_handshake(b"") == HandshakeTranscript()
    assert parse_handshake(PEER_PACKETS[:3]) == HandshakeTranscript()
    assert parse_handshake(packet(b"snot_allowed")) == HandshakeTranscript("not_allowed")
    assert parse_handshake(PEER_PACKETS[:20]) == HandshakeTranscript("ok")
    assert parse_handshake(packet(b"sok") + CHALLENGE) == HandshakeTranscript("ok", PLATO, OFFERED, 5)
    assert parse_handshake(PEER_PACKETS + b"frames") == HandshakeTranscript("ok", PLATO, OFFERED, 5, ack_received=True)


@pytest.mark.parametrize("cut", range(len(PEER_PACKETS)))
def test_a_truncated_handshake_is_not_another_protocol(cut):
    assert parse_handshake(PEER_PACKETS[:cut]).other_protocol is None


@pytest.mark.parametrize(
    "data", [packet(b"hello"), packet(b"sok") + packet(b"N"), b"HTTP/1.0 400", b"\x15\x03\x03\0\2\2\n"]
)
def test_other_data_is_another_protocol(data):
    transcript = parse_handshake(data)

    (finding,) = check_handshake(PLATO, transcript, up=False, timed_out=False, reason="")

    assert transcript.other_protocol
    assert finding.status is FAILED


def test_known_protocols_are_identified():
    assert identify_protocol(b"\x16\x03\x01") == "TLS"
    assert identify_protocol(b"SSH-2.0-OpenSSH") == "an SSH server"
    assert identify_protocol(b"\0\3sok") is None


@pytest.mark.parametrize(
    ("flags", "otp"),
    [
        (OFFERED, "25 to 27"),
        (OFFERED | Flags.ALTACT_SIG, "28 or later"),
        (OFFERED & ~Flags.MANDATORY_25_DIGEST, "24"),
        (OFFERED & ~Flags.MANDATORY_25_DIGEST & ~Flags.V4_NC, "23"),
        (Flags.PUBLISHED, "22 or older"),
    ],
)
def test_flags_identify_the_otp_generation(flags, otp):
    assert otp_generation(flags) == otp


def steps(transcript, **options):
    arguments = {"up": False, "timed_out": False, "reason": "", **options}
    return {finding.step: finding for finding in check_handshake(PLATO, transcript, **arguments)}


def test_a_close_after_our_digest_means_that_the_cookies_differ():
    transcript = HandshakeTranscript("ok", PLATO, OFFERED, 5)

    assert steps(transcript)["cookie"].summary == "the cookies differ"
    assert "does not answer" in steps(transcript, timed_out=True)["cookie"].summary
    assert steps(transcript, up=True)["cookie"].status is OK


def test_missing_required_flags_hide_the_cookie_step():
    found = steps(HandshakeTranscript("ok", PLATO, Flags.PUBLISHED, 5))

    assert found["flags"].status is FAILED
    assert "UTF8_ATOMS" in found["flags"].summary
    assert "cookie" not in found


def test_hidden_and_missing_optional_flags_are_reported_as_ok():
    flags = steps(HandshakeTranscript("ok", PLATO, OFFERED & ~Flags.PUBLISHED & ~Flags.SPAWN, 5))["flags"]

    assert flags.status is OK
    assert "SPAWN" in flags.summary
    assert "hidden" in flags.summary


@pytest.mark.parametrize("status", ["not_allowed", "nok", "ok", "nonsense"])
def test_a_status_without_a_challenge_is_a_failure(status):
    assert steps(HandshakeTranscript(status))["handshake"].status is FAILED


def test_no_response_and_a_close_without_data_are_distinguished():
    assert steps(HandshakeTranscript(), timed_out=True)["handshake"].facts["fault"] == "no_response"
    assert steps(HandshakeTranscript())["handshake"].facts["fault"] == "closed"


def test_lost_pings_are_a_note_and_no_answer_is_a_failure():
    assert service_checks.check_ping(PLATO, [0.001] * 5, 5).status is OK
    assert service_checks.check_ping(PLATO, [0.001] * 5, 5).facts["ms"] == {"least": 1.0, "median": 1.0, "most": 1.0}
    assert service_checks.check_ping(PLATO, [0.001], 5).status is NOTE
    assert service_checks.check_ping(PLATO, [], 5).status is FAILED


def test_a_node_of_python_is_told_from_a_beam():
    version = "erlmesh 0.1.0 on CPython 3.11.7"

    assert version in service_checks.check_release("25", version).summary
    assert service_checks.check_release("25", version).facts["otp"] is None
    assert service_checks.check_release("27", "Erlang/OTP 27 [erts-15.2.7]").facts["otp"] == "27"
    assert service_checks.check_release(None, None).facts["otp"] is None


def test_global_is_synchronized_or_behind_or_stuck_or_not_running():
    def finding(state, *, running=True):
        return service_checks.check_global(PLATO, state, running=running)

    assert finding(service_checks.GlobalState(8, ["a@b"], ["a@b"])).status is OK
    assert "a@b" in finding(service_checks.GlobalState(8, ["a@b"], [])).summary
    assert "does not answer" in finding(None).summary
    assert "does not run" in finding(None, running=False).summary


def test_one_running_scope_is_enough():
    assert service_checks.check_scopes(PLATO, {"pg": False, "other": True}).status is OK
    assert service_checks.check_scopes(PLATO, {"pg": False}).status is NOTE
