"""What happens to containers, and how the nodes in them react."""

import subprocess
import sys

from containers import ROOT, Lab

from otp.polling import wait_until


def test_the_demo_in_containers_passes_and_leaves_nothing_behind(image):
    done = subprocess.run(
        [sys.executable, "-m", "erlmesh", "demo", "--docker", "--map", "--image", image],
        capture_output=True, text=True,
        check=False, env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src")}, timeout=180,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "The map is at http://127.0.0.1:" in done.stdout
    print("\n".join(line for line in done.stdout.splitlines() if "✓" in line or line.startswith("All")))
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", "label=erlmesh.demo"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout == ""


def test_event_processing_in_containers_agrees_with_the_oracle(image, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "cep.demo", "--docker", "--image", image, "--short", "--patience", "5",
         "--out", str(tmp_path)],
        capture_output=True, text=True, cwd=ROOT / "examples", check=False,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT / "src")}, timeout=400,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 without a final mean" in done.stdout
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", "label=erlmesh.demo"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert listed.stdout == ""


def test_compose_makes_a_mesh_with_elixir_without_a_ping(compose):
    compose.run("up", "--detach", "--no-build")

    for philosopher in ("socrates", "plato", "aristotle"):
        wait_until(
            lambda at=philosopher: compose.ask(at, "len(Node.list())") == "3", 30, what=f"{philosopher} meets all"
        )
    compose.ask("socrates", "[diotima] = [n for n in Node.list() if n.name.startswith('diotima')]")
    assert compose.ask("socrates", "len(rpc.call(diotima, :erlang, :nodes, []))") == "3"

    compose.ask("socrates", ":pg.join(:group, self)")
    compose.ask("socrates", "theirs = rpc.call(diotima, :erlang, :whereis, [:rex])")
    assert compose.ask("socrates", "rpc.call(diotima, :pg, :join, [:group, theirs])") == ":ok"

    for philosopher in ("socrates", "plato", "aristotle"):
        wait_until(lambda at=philosopher: compose.ask(at, "len(pg.get_members(:group))") == "2", what="two members")
    wait_until(lambda: compose.ask("socrates", "len(rpc.call(diotima, :pg, :get_members, [:group]))") == "2")


def test_a_killed_container_is_found_again(lab: Lab):
    """No node pings. Discovery connects to each node that it finds and that is not connected."""
    options = ("--network-alias", "nodes", "--env", "ERLMESH_DISCOVER=dns:nodes", "--env", "ERLMESH_NET_TICKTIME=4")
    containers = [lab.node(name, *options) for name in ("socrates", "plato")]
    for container in containers:
        lab.wait_up(container)
    shell = lab.shell("socrates")
    wait_until(lambda: shell.ask("len(Node.list())") == "1")

    lab.run("kill", containers[1])
    wait_until(lambda: shell.ask("Node.list()") == "[]")
    lab.run("start", containers[1])

    wait_until(lambda: shell.ask("len(Node.list())") == "1")


def test_a_paused_container_is_connected_again_by_itself(lab: Lab):
    options = ("--network-alias", "nodes", "--env", "ERLMESH_DISCOVER=dns:nodes", "--env", "ERLMESH_NET_TICKTIME=4")
    containers = [lab.node(name, *options) for name in ("socrates", "plato", "aristotle")]
    for container in containers:
        lab.wait_up(container)
    shell = lab.shell("socrates")
    wait_until(lambda: shell.ask("len(Node.list())") == "2")

    lab.run("pause", containers[1])
    wait_until(lambda: shell.ask("len(Node.list())") == "1")
    lab.run("unpause", containers[1])

    wait_until(lambda: shell.ask("len(Node.list())") == "2")


def test_a_rolling_restart_keeps_the_mesh_and_the_state_of_the_other_nodes(lab: Lab):
    options = ("--network-alias", "nodes", "--env", "ERLMESH_DISCOVER=dns:nodes")
    names = ("socrates", "plato", "aristotle")
    for number, name in enumerate(names, 1):
        lab.node(name, "--ip", lab.address(number), *options)
    shells = {name: lab.shell(name) for name in names}
    for name in names:
        wait_until(lambda at=name: shells[at].ask("len(Node.list())") == "2", what=f"{name} meets all")

    for name in names:
        lab.run("restart", lab.container(name))
        shells[name] = lab.shell(name)
        for each in names:
            wait_until(lambda at=each: shells[at].ask("len(Node.list())") == "2", what=f"{each} meets all again")
