"""``erlmesh doctor`` towards nodes with TLS: every way in which two nodes with certificates do not connect."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from erlmesh.certs.folder import CertificateFolder
from erlmesh.terms import Atom
from pynode import python_environment

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
PLATO, DOCTOR = "plato@127.0.0.1", "doctor@127.0.0.1"


class TlsFiles:
    """A CA, and the certificates of the node ``plato`` and of the doctor."""

    def __init__(self, path):
        self.folder = CertificateFolder(path)
        path.mkdir()
        self.folder.make_authority(None, NOW - 20 * DAY, 400 * DAY)

    def make(self, node, *, host="127.0.0.1", start=-1, days=100):
        """Write the files of ``node``, with a certificate for ``host`` that is valid from day ``start`` on."""
        self.folder.issue(node, [f"{node.partition('@')[0]}@{host}"], NOW + start * DAY, days * DAY)
        return self

    def of(self, node):
        return self.folder.path / node

    def erl(self, node):
        return ["-proto_dist", "inet_tls", "-ssl_dist_optfile", str(self.of(node) / "ssl_dist.conf")]

    def pynode(self, node):
        return {
            "cert": str(self.of(node) / "tls.crt"),
            "key": str(self.of(node) / "tls.key"),
            "ca": str(self.of(node) / "ca.crt"),
        }


@pytest.fixture
def ours(tmp_path):
    return TlsFiles(tmp_path / "ours").make(DOCTOR)


@pytest.fixture
def theirs(tmp_path):
    return TlsFiles(tmp_path / "theirs")


@pytest.fixture
def doctor(cluster, ours):
    """``doctor(NODE, …)`` returns the exit code and the steps by name. It uses the certificate of ``ours``."""
    cluster.start_epmd_once()
    files = ours.pynode(DOCTOR)
    environment = {
        "PATH": os.environ["PATH"],
        **python_environment(cluster.epmd_port, cluster.home),
        "ERLMESH_COOKIE": "monster",
        **{f"ERLMESH_TLS_{kind.upper()}": path for kind, path in files.items()},
    }

    def run(node, *options, **variables):
        command = [
            sys.executable,
            "-W",
            "error",
            "-m",
            "erlmesh",
            "doctor",
            "--json",
            "--timeout",
            "30",
            node,
            *options,
        ]
        done = subprocess.run(
            command, env={**environment, **variables}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stderr == ""
        steps = json.loads(done.stdout)["steps"]
        return done.returncode, {step["step"]: step for step in steps}

    return run


STEPS = ["name", "certificate", "dns", "epmd", "registered", "port", "tls", "handshake", "flags", "cookie", "ping"]


def test_a_healthy_beam_with_tls_passes_every_step(cluster, doctor, ours, otp):
    plato = cluster.beam("plato", otp=otp, arguments=ours.make(PLATO).erl(PLATO))
    plato.eval("pg:start(pg)")

    code, steps = doctor(PLATO)

    assert (code, list(steps)) == (0, [*STEPS, "release", "global", "pg"])
    assert {step["status"] for step in steps.values()} == {"ok"}
    assert steps["tls"]["summary"].startswith("TLS 1.")
    assert steps["tls"]["facts"]["hosts"] == ["127.0.0.1"]
    assert steps["certificate"]["facts"]["issuer"].startswith("erlmesh CA ")


def test_a_healthy_python_node_with_tls_passes_every_step(cluster, doctor, ours):
    cluster.pynode("plato", tls=ours.make(PLATO).pynode(PLATO))

    code, steps = doctor(PLATO)

    assert (code, {step["status"] for step in steps.values()}) == (0, {"ok"})
    assert steps["tls"]["summary"].startswith("TLS 1.3; its certificate is from 'erlmesh CA ")


def beam(cluster, files):
    return cluster.beam("plato", arguments=files.erl(PLATO))


def pynode(cluster, files):
    return cluster.pynode("plato", tls=files.pynode(PLATO))


each_kind = pytest.mark.parametrize("start", [beam, pynode])


@each_kind
def test_an_expired_certificate_of_the_node_is_reported(cluster, doctor, ours, start):
    start(cluster, ours.make(PLATO, start=-10, days=5))

    code, steps = doctor(PLATO)

    assert (code, list(steps)[-1]) == (1, "tls")
    assert f"expired on {NOW - 5 * DAY:%Y-%m-%d}" in steps["tls"]["summary"]
    assert "Renew" in steps["tls"]["advice"][0]


@each_kind
def test_a_certificate_of_the_future_is_reported(cluster, doctor, ours, start):
    start(cluster, ours.make(PLATO, start=5))

    code, steps = doctor(PLATO)

    assert code == 1
    assert f"is not valid before {NOW + 5 * DAY - timedelta(minutes=5):%Y-%m-%d}" in steps["tls"]["summary"]
    assert "clocks" in steps["tls"]["advice"][0]


@each_kind
def test_a_node_of_another_ca_is_reported(cluster, doctor, ours, theirs, start):
    start(cluster, theirs.make(PLATO))

    code, steps = doctor(PLATO)

    assert code == 1
    assert "is signed by 'erlmesh CA " in steps["tls"]["summary"]
    assert f"not one of our CAs ({steps['certificate']['facts']['authorities'][0]})" in steps["tls"]["summary"]
    assert steps["tls"]["facts"]["issuer"] != steps["certificate"]["facts"]["issuer"]


@each_kind
def test_a_node_that_does_not_know_our_ca_is_reported(cluster, doctor, ours, theirs, start):
    """We trust its CA, but it does not trust ours."""
    start(cluster, theirs.make(PLATO))
    both = theirs.folder.path / "both.crt"
    both.write_bytes(b"".join((files.folder.path / "ca.crt").read_bytes() for files in (ours, theirs)))

    code, steps = doctor(PLATO, ERLMESH_TLS_CA=str(both))

    assert (code, list(steps)[-1]) == (1, "tls")
    assert steps["tls"]["facts"]["alert"] in ("UNKNOWN_CA", "BAD_CERTIFICATE")
    assert "our certificate" in steps["tls"]["summary"]


@each_kind
def test_a_certificate_for_another_host_is_reported(cluster, doctor, ours, start):
    start(cluster, ours.make(PLATO, host="10.0.0.7"))

    code, steps = doctor(PLATO)

    assert code == 1
    assert steps["tls"]["summary"] == "the certificate of the node is for 10.0.0.7, not for 127.0.0.1"


@pytest.mark.parametrize("kind", ["beam", "pynode"])
def test_a_plain_node_is_reported_to_a_doctor_with_tls(cluster, doctor, kind):
    getattr(cluster, kind)("plato")

    code, steps = doctor(PLATO)

    assert code == 1
    assert steps["tls"]["summary"] == "the node expects plain TCP, but we connected with TLS"
    assert "omit the --tls options" in steps["tls"]["advice"][0]


@each_kind
def test_a_node_with_tls_is_reported_to_a_doctor_without(cluster, doctor, ours, start):
    start(cluster, ours.make(PLATO))

    code, steps = doctor(PLATO, **{f"ERLMESH_TLS_{kind}": "" for kind in ("CERT", "KEY", "CA")})

    assert code == 1
    assert "expects TLS" in steps["handshake"]["summary"]
    assert "--tls-cert" in steps["handshake"]["advice"][0]


def test_a_service_that_is_no_node_is_reported(cluster, doctor):
    """The EPMD itself: it speaks neither TLS nor the protocol of nodes."""
    code, steps = doctor(PLATO, "--resolve", f"{PLATO}=127.0.0.1:{cluster.epmd_port}")

    assert code == 1
    assert "the TLS handshake failed" in steps["tls"]["summary"]


def test_a_wrong_cookie_inside_tls_is_reported(cluster, doctor, ours):
    cluster.beam("plato", arguments=ours.make(PLATO).erl(PLATO), cookie="another")

    code, steps = doctor(PLATO)

    assert (code, list(steps)[-1]) == (1, "cookie")
    assert steps["tls"]["status"] == steps["handshake"]["status"] == "ok"


def test_a_file_that_is_missing_is_reported_before_anything_else(doctor):
    code, steps = doctor(PLATO, ERLMESH_TLS_KEY="/nowhere/tls.key")

    assert (code, list(steps)) == (1, ["name", "certificate"])
    assert "/nowhere/tls.key does not exist" in steps["certificate"]["summary"]
    assert "erlmesh certs" in steps["certificate"]["advice"][-1]


def test_a_node_that_checks_the_host_of_callers_accepts_the_doctor_by_its_name(cluster, doctor, ours):
    ours.make("other@10.0.0.8", host="10.0.0.8")
    cluster.pynode("plato", tls={**ours.make(PLATO).pynode(PLATO), "verify_caller_host": True})

    code, _ = doctor(PLATO, "--name", DOCTOR)
    assert code == 0
    certificate = {f"ERLMESH_TLS_{kind.upper()}": path for kind, path in ours.pynode("other@10.0.0.8").items()}
    code, steps = doctor(PLATO, "--name", DOCTOR, **certificate)
    assert (code, list(steps)[-1]) == (1, "handshake")
    assert "be for the host of our name" in " ".join(steps["handshake"]["advice"])


def test_a_beam_with_an_allow_list_accepts_the_doctor_by_its_name(cluster, doctor, ours):
    plato = cluster.beam("plato", arguments=ours.make(PLATO).erl(PLATO))
    plato.eval("ok = net_kernel:allow([Host])", Host=Atom("127.0.0.1"))

    code, steps = doctor(PLATO, "--name", DOCTOR)

    assert steps["tls"]["status"] == "ok"
    assert code == 0, steps
