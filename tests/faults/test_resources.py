"""What a node lives on is taken from it: the phone book, descriptors, good weather, and the clock on the wall."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from machines import CannotHere
from world import GROUP, World, is_python

SEED = 2015


def kinds_are(*kinds):
    return pytest.mark.parametrize("kinds", [tuple(each.split()) for each in kinds], ids=" ".join)


@pytest.mark.world(otp_epmd=True)
@kinds_are("py 25", "25 py", "25 27")
def test_an_epmd_that_dies_ends_no_link_and_all_of_its_machine_register_anew(world, kinds):
    """Kill EPMD, and start it again."""
    machine = world.switch.machines[0]
    epmd = world.epmds[0]
    neighbour = world.start(0, kind=kinds[1], name="neighbour")
    both = {world.nodes[0].name.partition("@")[0], "neighbour"}
    world.meet()
    assert registered(world, machine) >= both

    world.fault()
    epmd.kill()

    world.stays(lambda: world.nodes[1].name in world.nodes[0].nodes(), 2)
    began = time.monotonic()
    world.start_epmd(machine)  # unless a Python node is it by now
    world.until(lambda: registered(world, machine) >= both, 10, what="registered anew")
    world.row.complete = time.monotonic() - began
    world.nothing_happened()
    assert world.nodes[1].ping(neighbour.name)
    world.row.outcome = "connections stay; all nodes register again"


def registered(world: World, machine) -> set[str]:
    lines = world.listing(machine).splitlines()
    return {line.split()[1] for line in lines if line.startswith("name ")}


@kinds_are("py py 25", "25 py 27", "25 25 25")
def test_without_descriptors_live_links_go_on_and_accepting_waits(world, kinds):
    """Use up all file descriptors."""
    world.meet()
    node = world.nodes[0]
    pid = node.pid
    used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    before = limit(pid, used)
    stranger = world.start(1, kind="py", name="stranger", reconnect=False)
    began = cpu(pid)

    world.fault()
    assert (
        stranger.eval("await asyncio.wait_for(node.ping(name), 9) or node.last_connect_error(name)", name=node.name)
        is not True
    )
    world.nothing_happened()
    assert world.nodes[1].ping(node.name)
    member = world.nodes[0].members(GROUP)
    assert member
    if is_python(kinds[0]):
        assert cpu(pid) - began < 1.5, "it spins"

    subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={before}"], check=True)
    world.until(lambda: stranger.ping(node.name), 10, what="let in again")
    world.row.outcome = "no new connection until descriptors are free; existing connections stay"


def limit(pid: int, used: int) -> str:
    """No further descriptor for ``pid``; the limits it had."""
    shown = subprocess.run(
        ["prlimit", f"--pid={pid}", "--nofile", "--noheadings", "--output=SOFT,HARD"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={used}:"], check=True)
    return ":".join(shown.stdout.split())


def cpu(pid: int) -> float:
    """Seconds of computing it has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.long
@pytest.mark.world(ticktime=8)
@kinds_are("py 25 27", "py py 25", "25 27 25")
def test_bad_weather_is_no_reason_to_drop_anybody(world, kinds):
    """Delay packets by 10±3 ms, lose 1 %, reorder 2 %; net tick time 8 s."""
    world.meet()

    world.fault()
    with world.bad_weather(SEED):
        end = time.monotonic() + (90 if world.long else 45)
        rounds = 0
        while time.monotonic() < end:
            for node in world.nodes:
                for other in world.nodes:
                    assert node is other or node.ping(other.name)
            rounds += 1
            time.sleep(0.5)
        world.nothing_happened()

    world.row.outcome = f"no node is dropped in {90 if world.long else 45} s"


@kinds_are("py py 25", "py 27 py")
def test_a_wall_clock_that_jumps_an_hour_changes_nothing(world, kinds):
    """Set the wall clock of the first node one hour forward, then two hours back."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        raise CannotHere("libfaketime is not installed")
    clock = world.home / "clock"
    clock.write_text("+0")
    world.nodes[0].terminate()
    world.nodes[0].wait()
    faked = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    world.nodes[0] = world.start(0, environment=faked)
    world.meet()

    world.fault()
    for shift in ("+3600", "-3600"):
        clock.write_text(shift)
        believed = world.nodes[0].eval("__import__('time').time()") - time.time()
        assert abs(believed - int(shift)) < 60
        world.stays(lambda: world.nodes[0].ping(world.nodes[2].name), world.ticktime)
    world.nothing_happened()
    world.row.outcome = "no effect"
