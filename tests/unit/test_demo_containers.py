"""The cleanup of the demo in containers, with a ``docker`` that refuses for a while."""

import json
import sys

import pytest

from erlmesh.demo import docker
from erlmesh.demo.docker import Engine
from erlmesh.demo.shells import DemoFailed

DOCKER = f"""#!{sys.executable}
import json, pathlib, sys
state = pathlib.Path(__file__).with_name("state.json")
things = json.loads(state.read_text())
match sys.argv[1:]:
    case ["version", *_]:
        print("20.10")
    case ["ps", *_] | ["network", "ls", *_]:
        kind = "network" if sys.argv[1] == "network" else "container"
        print("\\n".join(name for name in things if name.startswith(kind)))
    case ["rm" | "network", *names]:
        for name in set(names) & set(things):
            if things[name] > 0:
                things[name] -= 1
            else:
                del things[name]
        state.write_text(json.dumps(things))
        refused = set(names) & set(things)
        if refused:
            sys.exit(f"{{refused}} is in use")
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """``engine(name=times)``: an engine where the removal of ``name`` fails so many times."""
    program = tmp_path / "docker"
    program.write_text(DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(docker, "CLEANUP_INTERVAL", 0.0)

    def engine(**things):
        (tmp_path / "state.json").write_text(json.dumps(things))
        return Engine("token", tmp_path / "cookie")

    return engine


@pytest.fixture
def left(tmp_path):
    """What is left."""
    return lambda: set(json.loads((tmp_path / "state.json").read_text()))


def test_the_cleanup_repeats_until_nothing_is_left(engine, left):
    engine(container_plato=1, network_agora=2).close()

    assert left() == set()


def test_a_container_that_stays_keeps_nothing_else_from_being_removed(engine, left, monkeypatch):
    monkeypatch.setattr(docker, "CLEANUP_TIMEOUT", 0.0)

    with pytest.raises(DemoFailed, match=r"erlmesh\.demo=token .*container_plato.* is in use"):
        engine(container_plato=10**9, container_socrates=0, network_agora=0).close()

    assert left() == {"container_plato"}
