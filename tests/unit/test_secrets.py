"""No object shows a cookie: a ``repr`` ends in logs, in reports of exceptions and on screens."""

import argparse
import asyncio
import gc

import pytest
from test_server_restarts import with_nodes

from erlmesh.cli.settings import add_node_options, read_settings
from erlmesh.core.cookies import Cookies
from erlmesh.doctor.diagnose import Target
from erlmesh.node import Node
from erlmesh.runtime.config import NodeConfig
from erlmesh.sync.dialler import DialOptions
from erlmesh.testing.loop import run_iterations

SECRET = "TheSecretOfTheCluster"


def assert_shows_no_cookie(value):
    for show in (repr, str, format):
        try:
            text = show(value)
        except ValueError as error:  # a term of another test, with an integer that Python does not print
            assert "integer string conversion" in str(error)  # noqa: PT017
            continue
        assert SECRET not in text, type(value)


def command_line(*words):
    parser = argparse.ArgumentParser()
    add_node_options(parser)
    return parser.parse_args(words)


def own_objects():
    """All objects of erlmesh's classes that the garbage collector knows."""
    for each in gc.get_objects():
        module = getattr(type(each), "__module__", "")
        if isinstance(module, str) and module.split(".")[0] == "erlmesh":
            yield each


HOLDERS = {  # made in the test: other tests look for nodes that are left over
    "NodeConfig": lambda: NodeConfig("a@h", cookie=SECRET, cookies={"b@h": SECRET}),
    "Cookies": lambda: Cookies(SECRET, {"b@h": SECRET}),
    "Node": lambda: Node("a@h", cookie=SECRET, cookies={"b@h": SECRET}),
    "Target": lambda: Target("a@h", "b@h", cookie=lambda: SECRET, epmd_port=4369, cookies={"a@h": SECRET}),
    "DialOptions": lambda: DialOptions(SECRET, 4369, None, 60.0),
    "Settings": lambda: read_settings(command_line("--cookie", SECRET), {}),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_holds_the_cookie_does_not_show_it(holder):
    assert_shows_no_cookie(HOLDERS[holder]())


@pytest.mark.slow
@with_nodes("a@h", "b@h", cookies={"c@h": SECRET})
async def test_no_object_of_a_running_node_shows_a_cookie(a, b):
    """Also not the objects of a handshake that is under way."""
    for node in (a, b):
        node.set_cookie("a@h" if node is b else "b@h", SECRET)
    a.internals.disconnect("b@h")
    connecting = asyncio.ensure_future(a.connect("b@h"))
    seen = set()

    for _ in range(8):
        await run_iterations(1)
        for each in own_objects():
            seen.add(type(each).__name__)
            assert_shows_no_cookie(each)

    assert await connecting
    assert {"Node", "Runtime", "NodeConfig", "HandshakeDriver", "LocalNode", "Cookies", "Process"} <= seen
