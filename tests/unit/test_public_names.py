"""``import erlmesh`` provides every public name and imports no module before its first use."""

import subprocess
import sys

import pytest

import erlmesh


@pytest.mark.parametrize("name", erlmesh.__all__)
def test_a_public_name_is_importable_and_keeps_its_name(name):
    found = getattr(erlmesh, name)

    assert found is getattr(erlmesh, name)
    assert name in dir(erlmesh)
    assert name in ("NO_REPLY", "Caller", "SendableTerm", "Term") or name in (
        str(found),
        getattr(found, "__name__", None),
    )


def test_other_names_raise_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nodes'"):
        _ = erlmesh.Nodes
    assert not hasattr(erlmesh, "__path_of_nobody__")


def test_a_health_check_does_not_import_the_node():
    code = "import sys, erlmesh.cli.commands, erlmesh.cli.health; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not {"asyncio", "erlmesh.node", "erlmesh.etf", "erlmesh.shell", "erlmesh.cli.node_options"} & {
        *done.stdout.split()
    }


def test_node_has_at_most_40_public_names():
    names = {name for name in {*dir(erlmesh.Node), *erlmesh.Node.__annotations__} if not name.startswith("_")}

    assert len(names) <= 40


def test_process_has_no_internals_among_its_public_names():
    assert {name for name in dir(erlmesh.Process) if not name.startswith("_")} == {
        "alias", "alive", "call", "cast", "demonitor", "drain", "exit", "exit_reason", "group_leader",
        "handles_library_requests", "handles_system_messages", "label", "link", "mailbox_limit",
        "monitor", "monitor_group", "node", "pid", "receive", "receive_nowait", "register", "reply", "send",
        "send_after", "sleep", "spawn", "spawn_remote", "stop", "trap_exit", "unalias", "unhandled", "unlink",
    }  # fmt: skip
