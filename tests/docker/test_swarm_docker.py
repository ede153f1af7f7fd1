"""``deploy/swarm.yaml`` and ``deploy/swarm.tls.yaml`` as they stand, in a swarm of one machine."""

import os
import subprocess
import sys

import pytest
from containers import ROOT, Swarm, connected_count

from otp.polling import wait_until

STACK, TLS_STACK = "erlmesh-test", "erlmesh-test-tls"
TLS_NODES = [f"node@node-{number}.agora" for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def swarm(image, tmp_path_factory):
    """The swarm of all tests of this file. The machine leaves it afterwards."""
    swarm = Swarm(tmp_path_factory.mktemp("swarm"))
    yield swarm
    swarm.close()


@pytest.fixture(scope="module")
def stacks(swarm, image, tmp_path_factory):
    """Both stacks. They start at the same time."""
    folder = tmp_path_factory.mktemp("certs")
    subprocess.run(
        [sys.executable, "-m", "erlmesh", "certs", "--dir", folder, "--shared", "nodes", *TLS_NODES],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=True, capture_output=True,
    )  # fmt: skip
    for secret, file in (("erlmesh_ca", "ca.crt"), ("erlmesh_cert", "tls.crt"), ("erlmesh_key", "tls.key")):
        swarm.add_secret(secret, folder / "nodes" / file)
    swarm.deploy("swarm.tls.yaml", TLS_STACK, image)
    swarm.deploy("swarm.yaml", STACK, image)


def has_three_nodes(swarm, stack):
    """Whether three tasks run, and each is connected to the two others."""
    return [connected_count(task) for task in swarm.running_tasks(stack)] == [2] * 3


@pytest.mark.usefixtures("stacks")
def test_tasks_find_each_other_and_a_new_task_replaces_a_killed_one(swarm):
    wait_until(lambda: has_three_nodes(swarm, STACK), 180, what="three tasks in a mesh")

    victim, *survivors = swarm.running_tasks(STACK)
    swarm.run("kill", victim)

    wait_until(lambda: connected_count(survivors[0]) == 1, what="the dead one is gone")
    wait_until(lambda: has_three_nodes(swarm, STACK), 180, what="three tasks in a mesh again")


@pytest.mark.usefixtures("stacks")
def test_tasks_with_tls_find_each_other_and_refuse_a_node_without_a_certificate(swarm):
    wait_until(lambda: has_three_nodes(swarm, TLS_STACK), 180, what="three tasks in a mesh")

    first, *_ = swarm.running_tasks(TLS_STACK)
    for name in TLS_NODES:
        assert swarm.run("exec", first, "erlmesh", "ping", name).startswith("pong")
    plain = [f"--env=ERLMESH_TLS_{variable}=" for variable in ("CERT", "KEY", "CA")]
    refused = subprocess.run(
        ["docker", "exec", *plain, first, "erlmesh", "ping", TLS_NODES[1]], capture_output=True, text=True, check=False
    )
    assert refused.stdout == "pang\n"
    assert "TLS" in refused.stderr
