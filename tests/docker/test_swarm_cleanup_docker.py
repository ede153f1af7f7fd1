"""The swarm of the tests ends in every case."""

from containers import GATEWAY_NETWORK, STACK_LABEL, Swarm, swarm_state


def test_a_swarm_that_a_killed_run_left_ends_before_the_next_one(image, tmp_path):
    killed = Swarm(tmp_path)
    killed.deploy("swarm.yaml", "erlmesh-test", image)
    killed.forget()

    swarm = Swarm(tmp_path)
    stacks = swarm.run("stack", "ls", "--format", "{{.Name}}")
    swarm.close()

    assert stacks == ""
    assert swarm_state(swarm) == "inactive"
    assert swarm.run("ps", "--all", "--quiet", "--filter", f"label={STACK_LABEL}=erlmesh-test") == ""
    networks = swarm.run("network", "ls", "--format", "{{.Name}}").split()
    assert not [name for name in networks if name == GATEWAY_NETWORK or name.startswith("erlmesh-test")]
