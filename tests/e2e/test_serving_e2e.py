"""``erlmesh start --app`` with a serving, whose function runs in threads or in worker processes."""

import os
import signal
from pathlib import Path

import pytest

from polling import wait_until

MODELS = """
import os, signal, threading, time
from erlmesh import serving

@serving(processes=2, wait=0.0, batch_size=1, time_limit=float(os.environ.get("TIME_LIMIT", "60")))
def work(inputs):
    (what,) = inputs
    if what == b"pid":
        return [os.getpid()]
    if what == b"die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == b"raise":
        raise LookupError("as asked")
    if what == b"hang":
        time.sleep(600)
    if what == b"signals":
        os.kill(os.getpid(), signal.SIGTERM)
    return [what]

@serving(wait=0.0)
def thread(inputs):
    return [threading.current_thread() is not threading.main_thread() for _ in inputs]
"""


@pytest.fixture
def start(erlmesh, tmp_path):
    (tmp_path / "models.py").write_text(MODELS)
    path = os.pathsep.join([erlmesh.environment["PYTHONPATH"], str(tmp_path)])

    def start(app, **environment):
        plato = erlmesh.start("start", "--name", "plato", "--app", app, PYTHONPATH=path, **environment)
        plato.wait_for("is up")
        return plato, erlmesh.start("shell", "--name", "socrates", "--join", "plato")

    return start


def ask(shell, function, value):
    return shell.ask(f'rpc.call(:"plato@127.0.0.1", :models, :{function}, ["{value}"])')


def has_ended(pid):
    """True for a zombie, too: its parent is gone, and init has not looked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_plain_function_runs_in_a_thread(start):
    plato, shell = start("models:thread")
    shell.until('rpc.call(:"plato@127.0.0.1", :models, :thread, [1])', "true")
    plato.process.send_signal(signal.SIGTERM)

    assert plato.process.wait(timeout=60) == 0


def test_a_worker_that_dies_answers_its_batch_and_is_replaced(start):
    plato, shell = start("models:work")
    shell.until('rpc.call(:"plato@127.0.0.1", :models, :work, ["up"])', "b'up'")
    first = int(ask(shell, "work", "pid"))

    assert "WorkerDied" in (died := ask(shell, "work", "die"))
    assert "ended by signal 9 (SIGKILL)" in died
    assert "LookupError" in ask(shell, "work", "raise")
    plato.wait_for("in a worker process, at ")
    assert ask(shell, "work", "signals") == "b'signals'"  # The node decides when its workers end.
    again = {int(ask(shell, "work", "pid")) for _ in range(4)}
    assert first != plato.process.pid
    assert again - {plato.process.pid}

    plato.process.kill()
    wait_until(lambda: all(map(has_ended, again)))


def test_a_worker_that_hangs_is_replaced_at_the_time_limit(start):
    plato, shell = start("models:work", TIME_LIMIT="1")
    shell.until('rpc.call(:"plato@127.0.0.1", :models, :work, ["up"])', "b'up'")

    assert ["timeout" in ask(shell, "work", "hang") for _ in range(3)] == [True] * 3

    plato.wait_for("its worker is killed")
    shell.until('rpc.call(:"plato@127.0.0.1", :models, :work, ["up"])', "b'up'")


def test_no_worker_is_left_when_the_node_stops_or_is_killed_during_a_batch(start):
    plato, shell = start("models:work")
    shell.until('rpc.call(:"plato@127.0.0.1", :models, :work, ["up"])', "b'up'")
    pids = {int(ask(shell, "work", "pid")) for _ in range(6)}
    shell.type('rpc.call(:"plato@127.0.0.1", :models, :work, ["hang"], 200)')

    plato.process.kill()

    wait_until(lambda: all(map(has_ended, pids)))
