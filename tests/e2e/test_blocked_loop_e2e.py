"""A node with a blocked event loop, as users see it: its log, its health, and what other nodes report."""

import re

import pytest

WORKER = """
import threading
import time

from erlmesh import Atom, Process

async def app(me: Process):
    me.node.pg.join("workers", me.pid)
    async for _ in me:
        train_for_ages()

def train_for_ages():
    time.sleep(30)
"""


@pytest.fixture
def nodes(erlmesh, tmp_path):
    """plato, whose app blocks its event loop, and socrates, which is connected to it."""
    (tmp_path / "worker.py").write_text(WORKER)
    socrates = erlmesh.start("shell", "--name", "socrates@127.0.0.1")
    socrates.until("1 + 1", "2")
    plato = erlmesh.start(
        *("start", "--name", "plato@127.0.0.1", "--app", "worker:app", "--join", "socrates@127.0.0.1"),
        PYTHONPATH=f"{erlmesh.environment['PYTHONPATH']}:{tmp_path}",
    )
    plato.wait_for("plato@127.0.0.1 is up")
    socrates.until('len(pg.get_members("workers"))', "1")
    socrates.type('send(pg.get_members("workers")[0], "go")')
    plato.wait_for("has been blocked")
    return plato, socrates


def test_health_members_and_doctor_name_the_blocking_code(erlmesh, nodes):
    plato, _ = nodes

    plato.wait_for("in train_for_ages")
    code, out, _ = erlmesh.run("health", "--name", "plato")
    assert code == 1
    assert re.search(r"its event loop is blocked for [\d.]+ ms by train_for_ages \(\S+worker\.py:\d+\)", out)
    assert "; plato@127.0.0.1 is blocked for" in erlmesh.run("health", "--name", "socrates")[1]
    code, out, err = erlmesh.run("members", "workers", "--on", "socrates@127.0.0.1")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"plato@127\.0\.0\.1 <0\.\d+\.0>  blocked for \d+ s\n", out)
    code, out, _ = erlmesh.run("doctor", "socrates@127.0.0.1")
    assert "blocked     socrates@127.0.0.1 is connected to nodes with a blocked event loop: plato@127.0.0.1 for" in out


def test_a_blocked_node_still_serves_as_epmd(erlmesh, tmp_path):
    (tmp_path / "worker.py").write_text(WORKER.replace("    async for _ in me:\n        train", "    train"))
    plato = erlmesh.start(
        *("start", "--name", "plato@127.0.0.1", "--app", "worker:app"),
        PYTHONPATH=f"{erlmesh.environment['PYTHONPATH']}:{tmp_path}",
    )
    plato.wait_for("has been blocked")

    code, out, _ = erlmesh.run("epmd", "--names")
    assert code == 0
    assert "plato at port" in out
    socrates = erlmesh.start("shell", "--name", "socrates@127.0.0.1")
    socrates.until("1 + 1", "2")
    assert "socrates at port" in erlmesh.run("epmd", "--names")[1]
