"""What the doctor's steps say of what was seen."""

import pytest

from erlmesh.doctor import services, way
from erlmesh.doctor.findings import Fault, Verdict
from erlmesh.doctor.greeting import Heard, foreign_tongue, generation, greeted, read_greeting
from erlmesh.proto import handshake_packets as packets
from erlmesh.proto.epmd import PortInfo
from erlmesh.proto.flags import OFFERED, Flags

PLATO = "plato@10.0.0.7"
OK, NOTE, FAILED = Verdict.OK, Verdict.NOTE, Verdict.FAILED


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
    assert way.name_form(target, ours).verdict is verdict


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
    assert way.addresses_found(host, addresses, "nobody knows").verdict is verdict


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_of_an_epmd_has_a_meaning_and_an_advice(fault):
    finding = way.epmd_answered("host", 4369, None, fault, "what was seen")

    assert finding.verdict is FAILED
    assert finding.means
    assert finding.advice


def test_an_old_node_is_told_from_its_entry():
    assert way.registration(PLATO, PortInfo(9100, False, 6, 5), {}).verdict is OK
    assert "OTP 22" in way.registration(PLATO, PortInfo(9100, False, 5, 5), {}).means


def test_a_port_is_reached_if_one_address_takes_it():
    assert way.port_reached("h", 1, {"a": Fault.REFUSED, "b": None}, by_epmd=True).verdict is OK
    refused = way.port_reached("h", 1, {"a": Fault.REFUSED, "b": Fault.SILENT}, by_epmd=True)
    silent = way.port_reached("h", 1, {"a": Fault.SILENT}, by_epmd=True)

    assert "another interface" in refused.means
    assert "firewall" in silent.means
    assert "EPMD" not in way.port_reached("h", 1, {"a": Fault.SILENT}, by_epmd=False).says


def test_a_greeting_is_read_as_far_as_it_came():
    assert read_greeting(b"") == Heard()
    assert read_greeting(GREETING[:3]) == Heard()
    assert read_greeting(packet(b"snot_allowed")) == Heard("not_allowed")
    assert read_greeting(GREETING[:20]) == Heard("ok")
    assert read_greeting(packet(b"sok") + CHALLENGE) == Heard("ok", PLATO, OFFERED, 5)
    assert read_greeting(GREETING + b"frames") == Heard("ok", PLATO, OFFERED, 5, proved=True)


@pytest.mark.parametrize("cut", range(len(GREETING)))
def test_a_greeting_cut_anywhere_is_no_stranger(cut):
    assert read_greeting(GREETING[:cut]).stranger is None


@pytest.mark.parametrize(
    "data", [packet(b"hello"), packet(b"sok") + packet(b"N"), b"HTTP/1.0 400", b"\x15\x03\x03\0\2\2\n"]
)
def test_who_says_something_else_is_a_stranger(data):
    heard = read_greeting(data)

    (finding,) = greeted(PLATO, heard, up=False, silent=False, why="")

    assert heard.stranger
    assert finding.verdict is FAILED


def test_some_tongues_are_known():
    assert foreign_tongue(b"\x16\x03\x01") == "TLS"
    assert foreign_tongue(b"SSH-2.0-OpenSSH") == "an SSH server"
    assert foreign_tongue(b"\0\3sok") is None


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
    assert generation(flags) == otp


def steps(heard, **options):
    given = {"up": False, "silent": False, "why": "", **options}
    return {finding.step: finding for finding in greeted(PLATO, heard, **given)}


def test_a_close_after_our_proof_means_that_the_cookies_differ():
    heard = Heard("ok", PLATO, OFFERED, 5)

    assert steps(heard)["cookie"].says == "the cookies differ"
    assert "does not answer" in steps(heard, silent=True)["cookie"].says
    assert steps(heard, up=True)["cookie"].verdict is OK


def test_a_node_without_the_needed_flags_is_judged_by_them_alone():
    found = steps(Heard("ok", PLATO, Flags.PUBLISHED, 5))

    assert found["flags"].verdict is FAILED
    assert "UTF8_ATOMS" in found["flags"].says
    assert "cookie" not in found


def test_a_hidden_node_and_missing_comforts_are_told_and_no_obstacle():
    flags = steps(Heard("ok", PLATO, OFFERED & ~Flags.PUBLISHED & ~Flags.SPAWN, 5))["flags"]

    assert flags.verdict is OK
    assert "SPAWN" in flags.says
    assert "hidden" in flags.says


@pytest.mark.parametrize("status", ["not_allowed", "nok", "ok", "nonsense"])
def test_a_status_and_nothing_more_ends_the_handshake(status):
    assert steps(Heard(status))["handshake"].verdict is FAILED


def test_silence_and_a_close_without_a_word_are_told_apart():
    assert steps(Heard(), silent=True)["handshake"].facts["fault"] == "silent"
    assert steps(Heard())["handshake"].facts["fault"] == "closed"


def test_pings_that_are_lost_are_noted_and_none_at_all_is_a_failure():
    assert services.pinged(PLATO, [0.001] * 5, 5).verdict is OK
    assert services.pinged(PLATO, [0.001] * 5, 5).facts["ms"] == {"least": 1.0, "median": 1.0, "most": 1.0}
    assert services.pinged(PLATO, [0.001], 5).verdict is NOTE
    assert services.pinged(PLATO, [], 5).verdict is FAILED


def test_global_is_in_step_or_behind_or_stuck_or_not_there():
    def verdict(state, *, runs=True):
        return services.global_state(PLATO, state, runs=runs)

    assert verdict(services.GlobalState(8, ["a@b"], ["a@b"])).verdict is OK
    assert "a@b" in verdict(services.GlobalState(8, ["a@b"], [])).says
    assert "does not answer" in verdict(None).says
    assert "does not run" in verdict(None, runs=False).says


def test_a_scope_that_runs_is_enough():
    assert services.scopes(PLATO, {"pg": False, "other": True}).verdict is OK
    assert services.scopes(PLATO, {"pg": False}).verdict is NOTE
