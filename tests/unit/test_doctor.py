"""What the doctor's steps say of what was seen."""

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
GREETING = packet(b"sok") + CHALLENGE + packet(b"a" + bytes(16))


@pytest.mark.parametrize(
    ("target", "ours", "verdict"),
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
def test_names_of_two_forms_do_not_meet(target, ours, verdict):
    assert address_checks.check_name(target, ours).status is verdict


@pytest.mark.parametrize(
    ("host", "addresses", "verdict"),
    [
        ("10.0.0.7", ["10.0.0.7"], OK),
        ("host", ["10.0.0.7", "fe80::1%eth0"], OK),
        ("localhost", ["127.0.0.1", "::1"], OK),
        ("host", ["127.0.1.1"], NOTE),
        ("host", [], FAILED),
    ],
)
def test_a_host_must_lead_to_an_address(host, addresses, verdict):
    assert address_checks.check_addresses(host, addresses, "nobody knows").status is verdict


@pytest.mark.parametrize("fault", list(ProbeFailure))
def test_every_fault_of_an_epmd_has_a_meaning_and_an_advice(fault):
    finding = address_checks.check_epmd("host", 4369, None, fault, "what was seen")

    assert finding.status is FAILED
    assert finding.explanation
    assert finding.advice


def test_an_old_node_is_told_from_its_entry():
    assert address_checks.check_registration(PLATO, PortInfo(9100, False, 6, 5), {}).status is OK
    assert "OTP 22" in address_checks.check_registration(PLATO, PortInfo(9100, False, 5, 5), {}).explanation


def test_a_port_is_reached_if_one_address_takes_it():
    assert address_checks.check_port("h", 1, {"a": ProbeFailure.REFUSED, "b": None}, from_epmd=True).status is OK
    refused = address_checks.check_port(
        "h", 1, {"a": ProbeFailure.REFUSED, "b": ProbeFailure.NO_RESPONSE}, from_epmd=True
    )
    silent = address_checks.check_port("h", 1, {"a": ProbeFailure.NO_RESPONSE}, from_epmd=True)

    assert "another interface" in refused.explanation
    assert "firewall" in silent.explanation
    assert "EPMD" not in address_checks.check_port("h", 1, {"a": ProbeFailure.NO_RESPONSE}, from_epmd=False).summary


def test_a_greeting_is_read_as_far_as_it_came():
    assert parse_handshake(b"") == HandshakeTranscript()
    assert parse_handshake(GREETING[:3]) == HandshakeTranscript()
    assert parse_handshake(packet(b"snot_allowed")) == HandshakeTranscript("not_allowed")
    assert parse_handshake(GREETING[:20]) == HandshakeTranscript("ok")
    assert parse_handshake(packet(b"sok") + CHALLENGE) == HandshakeTranscript("ok", PLATO, OFFERED, 5)
    assert parse_handshake(GREETING + b"frames") == HandshakeTranscript("ok", PLATO, OFFERED, 5, ack_received=True)


@pytest.mark.parametrize("cut", range(len(GREETING)))
def test_a_greeting_cut_anywhere_is_no_stranger(cut):
    assert parse_handshake(GREETING[:cut]).other_protocol is None


@pytest.mark.parametrize(
    "data", [packet(b"hello"), packet(b"sok") + packet(b"N"), b"HTTP/1.0 400", b"\x15\x03\x03\0\2\2\n"]
)
def test_who_says_something_else_is_a_stranger(data):
    heard = parse_handshake(data)

    (finding,) = check_handshake(PLATO, heard, up=False, timed_out=False, reason="")

    assert heard.other_protocol
    assert finding.status is FAILED


def test_some_tongues_are_known():
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
def test_flags_tell_the_generation(flags, otp):
    assert otp_generation(flags) == otp


def steps(heard, **options):
    given = {"up": False, "timed_out": False, "reason": "", **options}
    return {finding.step: finding for finding in check_handshake(PLATO, heard, **given)}


def test_a_close_after_our_proof_means_that_the_cookies_differ():
    heard = HandshakeTranscript("ok", PLATO, OFFERED, 5)

    assert steps(heard)["cookie"].summary == "the cookies differ"
    assert "does not answer" in steps(heard, timed_out=True)["cookie"].summary
    assert steps(heard, up=True)["cookie"].status is OK


def test_a_node_without_the_needed_flags_is_judged_by_them_alone():
    found = steps(HandshakeTranscript("ok", PLATO, Flags.PUBLISHED, 5))

    assert found["flags"].status is FAILED
    assert "UTF8_ATOMS" in found["flags"].summary
    assert "cookie" not in found


def test_a_hidden_node_and_missing_comforts_are_told_and_no_obstacle():
    flags = steps(HandshakeTranscript("ok", PLATO, OFFERED & ~Flags.PUBLISHED & ~Flags.SPAWN, 5))["flags"]

    assert flags.status is OK
    assert "SPAWN" in flags.summary
    assert "hidden" in flags.summary


@pytest.mark.parametrize("status", ["not_allowed", "nok", "ok", "nonsense"])
def test_a_status_and_nothing_more_ends_the_handshake(status):
    assert steps(HandshakeTranscript(status))["handshake"].status is FAILED


def test_silence_and_a_close_without_a_word_are_told_apart():
    assert steps(HandshakeTranscript(), timed_out=True)["handshake"].facts["fault"] == "no_response"
    assert steps(HandshakeTranscript())["handshake"].facts["fault"] == "closed"


def test_pings_that_are_lost_are_noted_and_none_at_all_is_a_failure():
    assert service_checks.check_ping(PLATO, [0.001] * 5, 5).status is OK
    assert service_checks.check_ping(PLATO, [0.001] * 5, 5).facts["ms"] == {"least": 1.0, "median": 1.0, "most": 1.0}
    assert service_checks.check_ping(PLATO, [0.001], 5).status is NOTE
    assert service_checks.check_ping(PLATO, [], 5).status is FAILED


def test_global_is_in_step_or_behind_or_stuck_or_not_there():
    def verdict(state, *, runs=True):
        return service_checks.check_global(PLATO, state, running=runs)

    assert verdict(service_checks.GlobalState(8, ["a@b"], ["a@b"])).status is OK
    assert "a@b" in verdict(service_checks.GlobalState(8, ["a@b"], [])).summary
    assert "does not answer" in verdict(None).summary
    assert "does not run" in verdict(None, runs=False).summary


def test_a_scope_that_runs_is_enough():
    assert service_checks.check_scopes(PLATO, {"pg": False, "other": True}).status is OK
    assert service_checks.check_scopes(PLATO, {"pg": False}).status is NOTE
