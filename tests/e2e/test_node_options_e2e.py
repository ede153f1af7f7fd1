"""Options of nodes as a user gives them, health checks, and discovery."""

import json
import signal
import socket
import stat

import pytest

from erlmesh.errors import NodeStartError
from erlmesh.net.addresses import HostInfo, own_address


def test_health_is_ok_for_a_running_node_and_not_for_a_stopped_one(erlmesh):
    assert erlmesh.run("health")[:2] == (1, "no node of this user runs here\n")
    plato = erlmesh.start("start", "--name", "plato")
    plato.wait_for("is up")

    code, out, err = erlmesh.run("health")
    assert (code, err) == (0, "")
    assert out.startswith("ok: plato@127.0.0.1, its event loop answers in ")
    assert json.loads(erlmesh.run("health", "--json")[1])["port"] > 0

    plato.process.send_signal(signal.SIGSTOP)
    assert erlmesh.run("health", "--timeout", "0.3")[:2] == (1, "not ok: plato@127.0.0.1, no answer: timed out\n")
    plato.process.send_signal(signal.SIGCONT)
    assert erlmesh.run("health")[0] == 0

    plato.process.kill()
    plato.process.wait()
    assert erlmesh.run("health")[0] == 1


def test_health_is_not_ok_while_the_event_loop_is_blocked(erlmesh):
    socrates = erlmesh.start("shell", "--name", "socrates")
    socrates.ask("1")
    assert erlmesh.run("health", ERLMESH_NAME="socrates")[0] == 0
    socrates.type("print('now'); __import__('time').sleep(8)")
    socrates.wait_for("now")

    code, out, _ = erlmesh.run("health")

    assert code == 1
    assert "its event loop is blocked for" in out


@pytest.mark.parametrize(("option", "missed"), [("--no-reconnect", "[]"), ("--reconnect", "['plato@127.0.0.1']")])
def test_a_lost_node_is_reconnected_unless_reconnect_is_off(erlmesh, option, missed):
    plato = erlmesh.start("start", "--name", "plato")
    plato.wait_for("is up")
    socrates = erlmesh.start("shell", "--name", "socrates", option, "--join", "plato")
    socrates.until("Node.list", '[:"plato@127.0.0.1"]')

    plato.process.kill()

    socrates.until("Node.list", "[]")
    assert socrates.ask("print(me.node.reconnecting())") == missed


def test_health_needs_a_name_if_several_nodes_run(erlmesh):
    for name in ("plato", "socrates"):
        erlmesh.start("start", "--name", name).wait_for("is up")

    code, _, err = erlmesh.run("health")
    assert code == 1
    assert "plato@127.0.0.1, socrates@127.0.0.1" in err
    assert erlmesh.run("health", "--name", "plato")[1].startswith("ok: plato@")
    assert erlmesh.run("health", "--name", "missing")[0] == 1
    assert stat.S_IMODE((erlmesh.cookie.parent / "state").stat().st_mode) == 0o700


def test_a_range_of_ports_is_taken_from_the_environment(erlmesh):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        plato = erlmesh.start("start", "--name", "plato", ERLMESH_PORT_MIN=str(port), ERLMESH_PORT_MAX=str(port + 20))
        line = plato.wait_for("is up")

    assert port < int(line.split("port ")[1].split(",")[0]) <= port + 20


def test_a_hidden_node_is_listed_as_hidden(erlmesh):
    plato = erlmesh.start("shell", "--name", "plato")
    plato.ask("1")
    erlmesh.start("start", "--name", "spy", "--hidden", "--join", "plato").wait_for("is up")

    plato.until("Node.list(:hidden)", '[:"spy@127.0.0.1"]')
    assert plato.ask("Node.list") == "[]"


def test_an_invalid_variable_is_refused_and_a_misspelt_one_is_reported(erlmesh):
    code, _, err = erlmesh.run("start", "--name", "plato", ERLMESH_HIDDEN="perhaps")
    assert (code, err) == (1, "erlmesh: ERLMESH_HIDDEN is 'perhaps': it must be true or false\n")

    plato = erlmesh.start("start", "--name", "plato", ERLMESH_HIDEN="true")
    assert "is ERLMESH_HIDDEN meant?" in plato.wait_for("ERLMESH_HIDEN")


def test_host_auto_finds_the_own_address_or_lists_the_candidates(erlmesh):
    try:
        ours = own_address(HostInfo.detect())
    except NodeStartError as choice:
        refusal = f"erlmesh: {choice}\n"
    else:
        refusal = ""
    if refusal:
        assert erlmesh.run("start", "--name", "plato", "--host", "auto")[2] == refusal
        return

    plato = erlmesh.start("start", "--name", "plato", "--host", "auto")

    assert plato.wait_for("is up").startswith(f"plato@{ours} is up")
    assert erlmesh.run("ping", "plato", "--host", "auto")[0] == 0
    assert erlmesh.run("ping", "plato", ERLMESH_HOST="auto")[0] == 0


@pytest.mark.parametrize("how", ["static", "dns", "file"])
def test_discovery_connects_nodes(erlmesh, how):
    file = erlmesh.cookie.parent / "peers"
    file.write_text("plato@127.0.0.1\nsocrates@127.0.0.1\n")
    where = {"static": "static:127.0.0.1", "dns": "dns:127.0.0.1", "file": f"file:{file}"}[how]
    socrates = erlmesh.start("shell", "--name", "socrates", ERLMESH_DISCOVER=where)
    socrates.ask("1")
    plato = erlmesh.start("shell", "--name", "plato", "--discover", where)

    plato.until("Node.list", '[:"socrates@127.0.0.1"]')
    socrates.until("Node.list", '[:"plato@127.0.0.1"]')

    plato.process.kill()
    socrates.until("Node.list", "[]")
    erlmesh.start("start", "--name", "plato", "--discover", where)
    socrates.until("Node.list", '[:"plato@127.0.0.1"]')
    file.write_text("socrates@127.0.0.1\n")  # Discovery never disconnects a node that is missing in a result.
    assert socrates.ask("Node.list") == '[:"plato@127.0.0.1"]'


def test_an_unknown_kind_of_source_is_refused(erlmesh):
    code, _, err = erlmesh.run("start", "--name", "plato", ERLMESH_DISCOVER="zeroconf:x")

    assert code == 1
    assert "dns:NAME" in err
