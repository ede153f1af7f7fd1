"""Tab completion."""

import pytest

from erlmesh.shell.commands import Module, command
from erlmesh.shell.completion import LiveNames, complete


class Commands(Module):
    @command()
    def ping(self, name):
        """Ping."""

    @command()
    def pong(self):
        """Pong."""

    def hidden(self):
        """Not a command."""


PROPERTIES_READ = []


class WithProperty:
    @property
    def danger(self):
        PROPERTIES_READ.append("danger")

    def method(self):
        """A method."""


NAMESPACE = {"Node": Commands(), "thing": WithProperty(), "value": 5, "valley": 6, "text": "abc", "global_": Commands()}
LIVE_NAMES = LiveNames(nodes=lambda: ["plato@127.0.0.1", "socrates@127.0.0.1"], atoms=lambda: ["group", "gods"])


@pytest.mark.parametrize(
    ("text", "completions"),
    [
        ("Node.pi", ["ping("]),
        ("Node.", ["ping(", "pong("]),
        ("x = Node.po", ["pong("]),
        ("f(Node.pi", ["ping("]),
        ("val", ["valley", "value"]),
        ("isinst", ["isinstance("]),
        ("whil", ["while"]),
        ("thing.", ["danger", "method("]),
        ("thing.danger.up", []),
        ("text.upp", ["upper("]),
        ('Node.ping("pl', ["plato@127.0.0.1"]),
        ('Node.ping(:"', ["plato@127.0.0.1", "socrates@127.0.0.1"]),
        ("Node.ping('soc", ["socrates@127.0.0.1"]),
        (":g", ["gen_server", "global", "gods", "group"]),
        ("pg.join(:gr", ["group"]),
        ("{:go", ["gods"]),
        (":pg", ["pg", "pg2"]),
        (":global.pi", ["ping("]),
        ("", []),
        ("nothing.at", []),
        ("1.", []),
        ("x[", []),
        ("# val", ["valley", "value"]),
    ],
)
def test_tab_completes_names_attributes_nodes_and_atoms(text, completions):
    assert [found.text for found in complete(text, NAMESPACE, LIVE_NAMES)] == completions


def test_a_completion_replaces_the_typed_prefix():
    (found,) = complete('Node.ping(:"pla', NAMESPACE, LIVE_NAMES)

    assert (found.text, found.replace_length, found.display) == ("plato@127.0.0.1", 3, "plato@127.0.0.1")


def test_completion_does_not_run_properties():
    complete("thing.danger", NAMESPACE, LIVE_NAMES)
    complete("thing.danger.", NAMESPACE, LIVE_NAMES)

    assert PROPERTIES_READ == []
