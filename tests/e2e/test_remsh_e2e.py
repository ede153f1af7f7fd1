"""``erlmesh remsh``, as a user runs it."""

import pytest


def test_lines_run_on_the_other_node_which_keeps_running(erlmesh):
    erlmesh.start("start", "--name", "plato", "--allow-remsh").wait_for("is up")

    first = erlmesh.run("remsh", "plato", stdin="Node.self\nnode_wide = 1\n")
    second = erlmesh.run("remsh", "plato", stdin="Node.list\nexit(3)\n")

    assert first == (0, ':"plato@127.0.0.1"\n', "")
    assert second == (3, "[]\n", "")


def test_remsh_finds_the_only_node_that_runs_here(erlmesh):
    erlmesh.start("start", "--name", "plato", "--allow-remsh").wait_for("is up")

    assert erlmesh.run("shell", "--remsh", stdin="Node.self\n") == (0, ':"plato@127.0.0.1"\n', "")


def test_remsh_needs_a_name_if_several_nodes_run(erlmesh):
    erlmesh.start("start", "--name", "plato", "--allow-remsh").wait_for("is up")
    erlmesh.start("start", "--name", "zeno").wait_for("is up")

    code, _, err = erlmesh.run("shell", "--remsh")

    assert code == 1
    assert "plato@127.0.0.1, zeno@127.0.0.1" in err
    assert erlmesh.run("shell", "--remsh", "--name", "plato", stdin="1 + 1\n") == (0, "2\n", "")


def test_remsh_without_a_node_is_an_error(erlmesh):
    code, _, err = erlmesh.run("shell", "--remsh")

    assert (code, err) == (1, "erlmesh: which node is meant by --remsh? Give its name: no node runs here\n")


@pytest.mark.parametrize("environment", [{}, {"ERLMESH_ALLOW_REMSH": "off"}], ids=["default", "off"])
def test_a_node_refuses_remsh_by_default(erlmesh, environment):
    erlmesh.start("start", "--name", "plato", **environment).wait_for("is up")

    code, out, err = erlmesh.run("remsh", "plato", stdin="Node.self\n")

    assert (code, out) == (1, "")
    assert "does not allow remote shells" in err


def test_the_environment_allows_remsh_too(erlmesh):
    erlmesh.start("start", "--name", "plato", ERLMESH_ALLOW_REMSH="on").wait_for("is up")

    assert erlmesh.run("remsh", "plato", stdin="1 + 1\n") == (0, "2\n", "")


def test_a_wrong_cookie_gets_no_shell(erlmesh):
    erlmesh.start("start", "--name", "plato", "--allow-remsh").wait_for("is up")

    code, out, err = erlmesh.run("remsh", "plato", "--cookie", "other", stdin="Node.self\n")

    assert (code, out) == (1, "")
    assert "cookie" in err


def test_tables_hints_and_calls_are_those_of_the_other_node(erlmesh):
    erlmesh.start("start", "--name", "plato", "--allow-remsh").wait_for("is up")

    lines = "groups\n[1] |> length\nGenServer.whereis(:rex) == Process.whereis(:rex)\nProcess.info(self, :status)\n"
    code, out, err = erlmesh.run("remsh", "plato", stdin=lines)

    assert code == 0
    assert out == "no groups yet: pg.join(:group, self) creates one\nTrue\n{:status, :running}\n"
    assert err == "** (SyntaxError) `x |> f(y)` is `f(x, y)` in Python\n"
