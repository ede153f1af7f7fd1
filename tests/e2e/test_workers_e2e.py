"""``erlmesh start --workers N``: several nodes under one supervising process."""

import os
import re
import signal
from pathlib import Path

import pytest

from polling import wait_until

APP = """
import os, signal, subprocess, sys
from erlmesh import serving

@serving(wait=0)
def work(inputs):
    (what,) = inputs
    if what == b"exit":
        os._exit(3)
    if what in (b"daemon", b"child"):
        # It holds the output of this worker open.
        process = subprocess.Popen(["sleep", "60"], start_new_session=what == b"daemon")
        with open(os.path.join(os.path.dirname(__file__), "pid"), "w") as file:
            file.write(str(process.pid))
        os._exit(4)
    return [os.getpid()]

signal.signal(signal.SIGUSR1, lambda *_: print("got SIGUSR1", flush=True))

async def fails(me):
    if "-2@" in me.node.name:
        sys.exit("as asked")
    await me.receive()

async def stays(me):
    me.trap_exit = True
    while True:
        await me.receive()
        print("told to end", flush=True)

async def ends(me):
    pass

async def joining(me):
    print("joined:", me.node.name, await me.node.joined(30), me.node.nodes(), flush=True)
    await me.receive()
"""


@pytest.fixture
def start(erlmesh, tmp_path):
    (tmp_path / "models.py").write_text(APP)
    path = os.pathsep.join([erlmesh.environment["PYTHONPATH"], str(tmp_path)])

    def start(app, *more):
        arguments = ["start", "--name", "plato", "--workers", "2", "--app", f"models:{app}", *more]
        return erlmesh.start(*arguments, PYTHONPATH=path)

    return start


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def has_ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def work(shell, number, what):
    return shell.ask(f'rpc.call(:"plato-{number}@127.0.0.1", :models, :work, ["{what}"])')


def test_the_app_of_a_worker_waits_for_another_worker(start):
    plato = start("joining")
    first, second = "plato-1@127.0.0.1", "plato-2@127.0.0.1"

    assert f"joined: {first} True ['{second}']" in plato.wait_for(f"joined: {first}")


def test_workers_are_ready_restarted_and_stopped_together(start, erlmesh):
    plato = start("work", "--grace", "3")
    ready = plato.wait_for("plato@127.0.0.1 is up: 2 workers")
    assert ready.endswith("plato-1@127.0.0.1, plato-2@127.0.0.1")
    shell = erlmesh.start("shell", "--name", "socrates", "--join", "plato-2")
    before = {int(work(shell, number, "pid")) for number in (1, 2)}
    assert len(before) == 2
    code, out, _ = erlmesh.run("health", "--name", "plato")
    assert (code, len(re.findall(r"^ok: plato-[12]@127.0.0.1", out, re.MULTILINE))) == (0, 2)

    plato.process.send_signal(signal.SIGUSR1)
    lines = {plato.wait_for("got SIGUSR1") for _ in range(2)}
    assert lines == {"[plato-1] got SIGUSR1", "[plato-2] got SIGUSR1"}

    work(shell, 2, "exit")
    assert plato.wait_for("starts again").startswith("erlmesh: plato-2@127.0.0.1 ended with exit status 3")
    plato.wait_for("[plato-2] plato-2@127.0.0.1 is up")
    shell.until('len(pg.get_members(Atom("work")))', "2")
    after = int(work(shell, 2, "pid"))
    assert after not in before

    plato.process.send_signal(signal.SIGTERM)
    assert plato.process.wait(timeout=60) == 0
    assert all(map(has_ended, before | {after}))


def test_nothing_is_left_when_the_supervising_process_is_killed(start):
    plato = start("work", "--grace", "1")
    plato.wait_for("plato@127.0.0.1 is up")
    pids = children(plato.process.pid)
    assert len(pids) == 2

    plato.process.kill()

    wait_until(lambda: all(map(has_ended, pids)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_workers_that_import_for_ever_end_with_the_supervising_process(erlmesh, tmp_path, number):
    (tmp_path / "forever.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(600)")
    path = os.pathsep.join([erlmesh.environment["PYTHONPATH"], str(tmp_path)])
    arguments = ["start", "--name", "plato", "--workers", "2", "--app", "forever:main", "--grace", "600"]
    plato = erlmesh.start(*arguments, PYTHONPATH=path)
    assert {plato.wait_for("importing") for _ in range(2)} == {"[plato-1] importing", "[plato-2] importing"}
    pids = children(plato.process.pid)

    plato.process.send_signal(number)

    wait_until(lambda: all(map(has_ended, pids)))
    plato.process.wait(timeout=60)


@pytest.mark.parametrize("kind", ["child", "daemon"])
def test_a_worker_whose_output_another_process_holds_open_starts_again(start, erlmesh, kind, tmp_path):
    plato = start("work", "--grace", "1")
    plato.wait_for("plato@127.0.0.1 is up")
    shell = erlmesh.start("shell", "--name", "socrates", "--join", "plato-2")

    work(shell, 2, kind)

    assert "ended with exit status 4" in plato.wait_for("starts again")
    plato.wait_for("[plato-2] plato-2@127.0.0.1 is up")
    pid = int((tmp_path / "pid").read_text())
    assert kind == "daemon" or has_ended(pid)
    plato.process.send_signal(signal.SIGTERM)
    assert plato.process.wait(timeout=60) == 0
    if kind == "daemon":
        os.kill(pid, signal.SIGKILL)


def test_a_second_signal_ends_all_at_once(start):
    plato = start("stays", "--grace", "60")
    plato.wait_for("plato@127.0.0.1 is up")
    pids = children(plato.process.pid)

    plato.process.send_signal(signal.SIGINT)
    assert {plato.wait_for("told to end") for _ in range(2)} == {"[plato-1] told to end", "[plato-2] told to end"}
    plato.process.send_signal(signal.SIGINT)

    assert plato.process.wait(timeout=60) == 130
    assert all(map(has_ended, pids))


def test_a_worker_that_does_not_start_ends_all(start):
    plato = start("no_such")

    assert plato.process.wait(timeout=60) == 1
    plato.wait_for("has no function no_such")


def test_too_many_restarts_end_all_with_status_1(start):
    plato = start("fails")

    plato.wait_for("too many restarts within")
    assert plato.process.wait(timeout=60) == 1


def test_the_end_of_all_apps_is_the_end(start):
    assert start("ends").process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--workers", "2", "--prompt"], "--workers (or ERLMESH_WORKERS) starts several nodes: omit --prompt"),
        (["--workers", "2", "--port", "9100"], "2 workers need 2 ports: give a range"),
        (["--workers", "2", "--erl-epmd-port", "9100"], "2 workers need 2 ports: give a range"),
        (["--workers", "two"], "--workers is 'two': it must be a whole number"),
    ],
    ids=["prompt", "port", "no EPMD", "a word"],
)
def test_options_that_do_not_fit_several_nodes_are_refused(erlmesh, arguments, text):
    code, _, err = erlmesh.run("start", "--name", "plato", *arguments)

    assert code in (1, 2)
    assert text in err
