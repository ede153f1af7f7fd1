"""Names, joins and groups, as they are typed on a command line."""

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


def test_a_name_without_a_host_lives_on_the_loopback_address():
    assert given("socrates").config.name == "socrates@127.0.0.1"
    assert given("socrates").name_generated
    assert not given("socrates@127.0.0.1").name_generated


def test_the_environment_mirrors_the_options_and_the_options_win():
    found = given(ERLMESH_NAME="plato", ERLMESH_JOIN="a@127.0.0.1, b@127.0.0.1 c")

    assert found.config.name == "plato@127.0.0.1"
    assert found.join == ("a@127.0.0.1", "b@127.0.0.1", "c@127.0.0.1")
    assert given("x", ["y"], ERLMESH_NAME="plato", ERLMESH_JOIN="a").join == ("y@127.0.0.1",)


def test_without_any_name_one_is_made_up():
    found = given()

    assert found.name_generated
    assert found.config.name.endswith("@127.0.0.1")


@pytest.mark.parametrize("name", ["", "@", "a@", "@b", "a b@c", "a@b@c", "a@b c", "ä@b", "a" * 250 + "@host.x"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(NodeStartError, match="is not a node name"):
        complete_name(name)


@pytest.mark.parametrize(("name", "join"), [("a@10.0.0.1", "b@host"), ("a@host", "b@10.0.0.1"), ("a", "b@host")])
def test_long_and_short_names_are_told_apart_before_they_try_to_meet(name, join):
    with pytest.raises(NodeStartError, match="cannot connect"):
        given(name, [join])


def test_a_node_that_looks_in_has_a_name_of_the_same_kind_each_time_another():
    assert ephemeral_name("plato@10.0.0.1").endswith("@127.0.0.1")
    assert ephemeral_name("plato@host").endswith("@localhost")
    assert ephemeral_name("plato@host") != ephemeral_name("plato@host")


@pytest.mark.parametrize("name", [":plato", ':"plato@127.0.0.1"', "'plato@127.0.0.1'", ":plato@127.0.0.1"])
def test_a_node_may_be_typed_as_an_atom(name):
    assert complete_name(name) == "plato@127.0.0.1"
