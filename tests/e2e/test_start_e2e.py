"""``erlmesh start`` with --expose and --app."""

import os
import re

import pytest

MODELS = """
from erlmesh import Atom, Process, expose

@expose
def double(x):
    return 2 * x

def hidden():
    pass

async def app(me: Process):
    me.register("app")
    async for message in me:
        if message is Atom("fail"):
            raise ValueError("as asked")
        return

async def joining(me: Process):
    print("joined:", await me.node.joined(), me.node.nodes(), flush=True)
    await me.receive()

def no_process():
    pass
"""


@pytest.fixture
def start(erlmesh, tmp_path):
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "models.py").write_text(MODELS)
    path = os.pathsep.join([erlmesh.environment["PYTHONPATH"], str(tmp_path)])

    def start(*arguments):
        return erlmesh.start("start", "--name", "plato", *arguments, PYTHONPATH=path)

    start.run = lambda *arguments: erlmesh.run("start", "--name", "plato", *arguments, PYTHONPATH=path)
    return start


def test_a_modules_functions_are_exposed_by_its_name_or_another(start, erlmesh):
    start("--expose", "mypackage.models", "--expose", "mine=mypackage.models").wait_for("is up")
    shell = erlmesh.start("shell", "--name", "socrates", "--join", "plato")

    assert shell.ask('rpc.call(:"plato@127.0.0.1", :models, :double, [4])') == "8"
    assert shell.ask('rpc.call(:"plato@127.0.0.1", :mine, :double, [4])') == "8"
    assert ":undef" in shell.ask('rpc.call(:"plato@127.0.0.1", :models, :hidden, [])')


@pytest.mark.parametrize(("message", "code"), [("stop", 0), ("fail", 1)])
def test_the_node_stops_with_its_app(start, erlmesh, message, code):
    plato = start("--app", "mypackage.models:app")
    plato.wait_for("is up")
    shell = erlmesh.start("shell", "--name", "socrates", "--join", "plato")

    shell.ask(f'send((Atom("app"), Atom("plato@127.0.0.1")), Atom("{message}"))')

    assert plato.process.wait(timeout=60) == code


def test_an_app_waits_for_the_nodes_of_join(start, erlmesh):
    socrates = erlmesh.start("start", "--name", "socrates")
    socrates.wait_for("is up")

    plato = start("--join", "socrates", "--app", "mypackage.models:joining")

    assert "joined: True ['socrates@127.0.0.1']" in plato.wait_for("joined:")


def test_an_app_waits_for_a_node_that_discovery_finds(start, erlmesh):
    socrates = erlmesh.start("start", "--name", "socrates")
    socrates.wait_for("is up")

    plato = start("--discover", "static:127.0.0.1", "--app", "mypackage.models:joining")

    assert "joined: True ['socrates@127.0.0.1']" in plato.wait_for("joined:")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--expose", "no.such.module"], "cannot import no.such.module"),
        (["--app", "mypackage.models:no_process"], "is not an `async def` function, which a process needs"),
        (["--app", "mypackage.models:nope"], "the module mypackage.models has no function nope"),
    ],
)
def test_what_cannot_be_exposed_or_run_is_refused_in_words(start, arguments, text):
    code, _, err = start.run(*arguments)

    assert code == 2
    assert text in err
    assert "Traceback" not in err


def test_the_line_of_a_started_node_says_nothing_of_addresses_if_only_this_machine_reaches_it(start):
    said = start().wait_for("is up")

    assert re.search(r"is up: listening on port \d+, known to the EPMD on port \d+ \(this node serves it\)$", said)


def test_the_line_of_a_started_node_says_that_others_reach_its_port_and_its_epmd(erlmesh):
    plato = erlmesh.start("start", "--name", "plato@127.0.0.1", "--listen", "*", ERL_EPMD_ADDRESS="0.0.0.0")

    assert re.search(
        r"on port \d+ of every interface, known to the EPMD on port \d+ of every interface \(this node serves it\)$",
        plato.wait_for("is up"),
    )
