"""What Tab offers."""

import pytest

from erlmesh.shell.commands import Module, command
from erlmesh.shell.completion import LiveNames, complete


class Things(Module):
    @command()
    def ping(self, name):
        """Pings."""

    @command()
    def pong(self):
        """Pongs."""

    def hidden(self):
        """No command."""


RAN = []


class Trap:
    @property
    def danger(self):
        RAN.append("danger")

    def method(self):
        """Does."""


NAMESPACE = {"Node": Things(), "trap": Trap(), "value": 5, "valley": 6, "text": "abc", "global_": Things()}
LIVE = LiveNames(nodes=lambda: ["plato@127.0.0.1", "socrates@127.0.0.1"], atoms=lambda: ["group", "gods"])


@pytest.mark.parametrize(
    ("before", "offered"),
    [
        ("Node.pi", ["ping("]),
        ("Node.", ["ping(", "pong("]),
        ("x = Node.po", ["pong("]),
        ("f(Node.pi", ["ping("]),
        ("val", ["valley", "value"]),
        ("isinst", ["isinstance("]),
        ("whil", ["while"]),
        ("trap.", ["danger", "method("]),
        ("trap.danger.up", []),
        ("text.upp", ["upper("]),
        ('Node.ping("pl', ["plato@127.0.0.1"]),
        ('Node.ping(:"', ["plato@127.0.0.1", "socrates@127.0.0.1"]),
        ("Node.ping('soc", ["socrates@127.0.0.1"]),
        (":g", ["global", "gods", "group"]),
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
def test_tab_offers(before, offered):
    assert [found.text for found in complete(before, NAMESPACE, LIVE)] == offered


def test_a_completion_replaces_what_was_typed_of_the_name():
    (found,) = complete('Node.ping(:"pla', NAMESPACE, LIVE)

    assert (found.text, found.replace_length, found.display) == ("plato@127.0.0.1", 3, "plato@127.0.0.1")


def test_looking_runs_nothing():
    complete("trap.danger", NAMESPACE, LIVE)
    complete("trap.danger.", NAMESPACE, LIVE)

    assert RAN == []
