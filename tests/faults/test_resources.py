"""Faults of resources: EPMD, file descriptors, packet delivery and the wall clock."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from netns import NotSupported
from scenario import GROUP, Scenario, is_python

SEED = 2015


def with_kinds(*kinds):
    return pytest.mark.parametrize("kinds", [tuple(each.split()) for each in kinds], ids=" ".join)


@pytest.mark.scenario(otp_epmd=True)
@with_kinds("py 25", "25 py", "25 27")
def test_epmd_failure_keeps_connections_and_nodes_register_again(scenario, kinds):
    """Kill EPMD, and start it again."""
    machine = scenario.switch.hosts[0]
    epmd = scenario.epmds[0]
    neighbour = scenario.start(0, kind=kinds[1], name="neighbour")
    both = {scenario.nodes[0].name.partition("@")[0], "neighbour"}
    scenario.form_mesh()
    assert registered(scenario, machine) >= both

    scenario.mark_fault()
    epmd.kill()

    scenario.assert_holds(lambda: scenario.nodes[1].name in scenario.nodes[0].nodes(), 2)
    began = time.monotonic()
    scenario.start_epmd(machine)  # unless a Python node is the EPMD by now
    scenario.wait_until(lambda: registered(scenario, machine) >= both, 10, what="registered again")
    scenario.report_row.recovery_time = time.monotonic() - began
    scenario.assert_undisturbed()
    assert scenario.nodes[1].ping(neighbour.name)
    scenario.report_row.outcome = "connections stay; all nodes register again"


def registered(scenario: Scenario, machine) -> set[str]:
    lines = scenario.epmd_names(machine).splitlines()
    return {line.split()[1] for line in lines if line.startswith("name ")}


@with_kinds("py py 25", "25 py 27", "25 25 25")
def test_without_descriptors_connections_stay_and_accepting_waits(scenario, kinds):
    """Use up all file descriptors."""
    scenario.form_mesh()
    node = scenario.nodes[0]
    pid = node.pid
    used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    before = exhaust_descriptors(pid, used)
    stranger = scenario.start(1, kind="py", name="stranger", reconnect=False)
    began = cpu_seconds(pid)

    scenario.mark_fault()
    assert (
        stranger.eval("await asyncio.wait_for(node.ping(name), 9) or node.last_connect_error(name)", name=node.name)
        is not True
    )
    scenario.assert_undisturbed()
    assert scenario.nodes[1].ping(node.name)
    member = scenario.nodes[0].members(GROUP)
    assert member
    if is_python(kinds[0]):
        assert cpu_seconds(pid) - began < 1.5, "it runs a busy loop"

    subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={before}"], check=True)
    scenario.wait_until(lambda: stranger.ping(node.name), 10, what="accepted again")
    scenario.report_row.outcome = "no new connection until descriptors are free; existing connections stay"


def exhaust_descriptors(pid: int, used: int) -> str:
    """Set the descriptor limit of ``pid`` to the number in use. Return the limits before."""
    shown = subprocess.run(
        ["prlimit", f"--pid={pid}", "--nofile", "--noheadings", "--output=SOFT,HARD"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={used}:"], check=True)
    return ":".join(shown.stdout.split())


def cpu_seconds(pid: int) -> float:
    """CPU seconds that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.long
@pytest.mark.scenario(ticktime=8)
@with_kinds("py 25 27", "py py 25", "25 27 25")
def test_delay_loss_and_reordering_drop_no_node(scenario, kinds):
    """Delay packets by 10±3 ms, lose 1 %, reorder 2 %; net tick time 8 s."""
    scenario.form_mesh()

    scenario.mark_fault()
    with scenario.network_emulation(SEED):
        end = time.monotonic() + (90 if scenario.long else 45)
        rounds = 0
        while time.monotonic() < end:
            for node in scenario.nodes:
                for other in scenario.nodes:
                    assert node is other or node.ping(other.name)
            rounds += 1
            time.sleep(0.5)
        scenario.assert_undisturbed()

    scenario.report_row.outcome = f"no node is dropped in {90 if scenario.long else 45} s"


@with_kinds("py py 25", "py 27 py")
def test_wall_clock_jump_of_an_hour_has_no_effect(scenario, kinds):
    """Set the wall clock of the first node one hour forward, then two hours back."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        raise NotSupported("libfaketime is not installed")
    clock = scenario.home / "clock"
    clock.write_text("+0")
    scenario.nodes[0].terminate()
    scenario.nodes[0].wait()
    faked = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    scenario.nodes[0] = scenario.start(0, environment=faked)
    scenario.form_mesh()

    scenario.mark_fault()
    for shift in ("+3600", "-3600"):
        clock.write_text(shift)
        believed = scenario.nodes[0].eval("__import__('time').time()") - time.time()
        assert abs(believed - int(shift)) < 60
        scenario.assert_holds(lambda: scenario.nodes[0].ping(scenario.nodes[2].name), scenario.ticktime)
    scenario.assert_undisturbed()
    scenario.report_row.outcome = "no effect"
