"""``deploy/swarm.yaml`` as it stands, in a swarm of one machine."""

import json
import os
import subprocess

import pytest
from containers import ROOT

from otp.polling import wait_until
from skips import skip_or_fail

STACK = "erlmesh-test"
GATEWAY_NETWORK = "docker_gwbridge"
"""A network that a swarm leaves behind."""


@pytest.fixture
def stack(lab, monkeypatch):
    """Three tasks, which the commands of ``lab`` find. The machine leaves the swarm afterwards."""
    if os.environ.get("CI") != "true":
        skip_or_fail("this would make a swarm of this machine: CI=true does")
    if lab.run("info", "--format", "{{.Swarm.LocalNodeState}}") != "inactive":
        skip_or_fail("this machine is in a swarm already")
    had_gateways = GATEWAY_NETWORK in lab.run("network", "ls", "--format", "{{.Name}}").split()
    monkeypatch.setenv("IMAGE", lab.image)
    lab.run("swarm", "init", "--advertise-addr", "127.0.0.1")
    try:
        lab.run("secret", "create", "erlmesh_cookie", str(lab._cookie_file))
        lab.run("stack", "deploy", "--compose-file", str(ROOT / "deploy" / "swarm.yaml"), STACK)
        yield STACK
    finally:
        lab.run("stack", "rm", STACK)
        wait_until(lambda: not running_tasks(lab), 30, what="all tasks are over")
        lab.run("swarm", "leave", "--force")
        left = lab.run("ps", "--all", "--quiet", "--filter", f"name={STACK}").split()
        if left:
            lab.run("rm", "--force", *left)
        if not had_gateways:
            lab.run("network", "rm", GATEWAY_NETWORK)


def running_tasks(lab):
    """The containers of the tasks that run."""
    return lab.run("ps", "--quiet", "--filter", f"name={STACK}").split()


def connected_count(container):
    """How many nodes the node there knows. None until it runs."""
    command = ["docker", "exec", container, "erlmesh", "health", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout)["nodes"] if done.returncode == 0 else None


def test_tasks_find_each_other_and_a_new_task_replaces_a_killed_one(lab, stack):
    wait_until(
        lambda: [connected_count(task) for task in running_tasks(lab)] == [2] * 3, 90, what="three tasks in a mesh"
    )

    victim, *survivors = running_tasks(lab)
    lab.run("kill", victim)

    wait_until(lambda: connected_count(survivors[0]) == 1, what="the dead one is gone")
    wait_until(
        lambda: [connected_count(task) for task in running_tasks(lab)] == [2] * 3,
        90,
        what="three tasks in a mesh again",
    )
