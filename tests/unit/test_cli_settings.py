"""Node names and --join, as they are typed on a command line."""

import argparse

import pytest

from erlmesh.cli.settings import add_node_options, complete_name, ephemeral_name, read_settings
from erlmesh.errors import NodeStartError


def given(name=None, join=None, *options, **environment):
    parser = argparse.ArgumentParser()
    add_node_options(parser)
    words = [*options, "--cookie", "c"] + (["--name", name] if name is not None else [])
    words += [word for peer in join or [] for word in ("--join", peer)]
    return read_settings(parser.parse_args(words), environment)


def test_a_name_without_a_host_gets_the_loopback_address():
    assert given("socrates").config.name == "socrates@127.0.0.1"
    assert given("socrates").name_generated
    assert not given("socrates@127.0.0.1").name_generated


def test_options_win_over_their_variables():
    found = given(ERLMESH_NAME="plato", ERLMESH_JOIN="a@127.0.0.1, b@127.0.0.1 c")

    assert found.config.name == "plato@127.0.0.1"
    assert found.join == ("a@127.0.0.1", "b@127.0.0.1", "c@127.0.0.1")
    assert given("x", ["y"], ERLMESH_NAME="plato", ERLMESH_JOIN="a").join == ("y@127.0.0.1",)


def test_a_node_without_a_name_gets_a_generated_one():
    found = given()

    assert found.name_generated
    assert found.config.name.endswith("@127.0.0.1")


@pytest.mark.parametrize("name", ["", "@", "a@", "@b", "a b@c", "a@b@c", "a@b c", "ä@b", "a" * 250 + "@host.x"])
def test_an_invalid_name_is_refused(name):
    with pytest.raises(NodeStartError, match="is not a node name"):
        complete_name(name)


@pytest.mark.parametrize(("name", "join"), [("a@10.0.0.1", "b@host"), ("a@host", "b@10.0.0.1"), ("a", "b@host")])
def test_a_long_and_a_short_name_are_refused_before_they_connect(name, join):
    with pytest.raises(NodeStartError, match="cannot connect"):
        given(name, [join])


def test_a_client_node_has_a_new_name_of_the_same_kind_as_its_target():
    assert ephemeral_name("plato@10.0.0.1").endswith("@127.0.0.1")
    assert ephemeral_name("plato@host").endswith("@localhost")
    assert ephemeral_name("plato@host") != ephemeral_name("plato@host")


@pytest.mark.parametrize("name", [":plato", ':"plato@127.0.0.1"', "'plato@127.0.0.1'", ":plato@127.0.0.1"])
def test_a_node_may_be_typed_as_an_atom(name):
    assert complete_name(name) == "plato@127.0.0.1"
    assert given("socrates", [name]).join == ("plato@127.0.0.1",)
