"""``erlmesh members`` finds the groups that README, the shell and other programs join."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from polling import wait_until

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


@pytest.fixture
def example(erlmesh, tmp_path):
    """README's example, which joins the group "greeters"."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (code,) = (block for block in blocks if 'pg.join("greeters"' in block)
    script = tmp_path / "example.py"
    script.write_text(code)
    with subprocess.Popen([sys.executable, script], env=erlmesh.environment, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def members(erlmesh, *arguments):
    return erlmesh.run("members", *arguments, "--on", "socrates@127.0.0.1", "--cookie", "monster")


def until_joined(erlmesh, group):
    """What the command prints when the group has a member. The example joins after its first attempt to connect."""

    def printed():
        code, *texts = members(erlmesh, group)
        return texts if code == 0 else None

    return wait_until(printed, what=f"a member of {group}")


@pytest.mark.usefixtures("example")
def test_the_command_finds_the_group_of_the_readme(erlmesh):
    out, err = until_joined(erlmesh, "greeters")

    assert re.fullmatch(r"socrates@127\.0\.0\.1 <0\.\d+\.0>\n", out)
    assert err == ""
    for same in ('"greeters"', '<<"greeters">>'):
        assert members(erlmesh, same) == (0, out, "")
    code, out, err = members(erlmesh, ":greeters")
    assert (code, out) == (1, "")
    assert 'the group :greeters has no members, but the binary "greeters" has 1' in err
    assert "    erlmesh members greeters --on socrates@127.0.0.1\n" in err


def test_the_command_and_the_shell_name_groups_alike(erlmesh):
    plato = erlmesh.start("shell", "--name", "plato")
    plato.ask(":pg.join(:workers, self)")
    plato.ask(':pg.join({:room, "lobby"}, self)')
    plato.ask(":pg2.create(:old)")
    plato.ask(":pg2.join(:old, self)")
    plato.ask("pg._node.pg.start_scope('chat').join('talkers', self())")

    def ask(*arguments):
        code, out, err = erlmesh.run("members", *arguments, "--on", "plato")
        return code, out.split(" ")[0], err.strip().rpartition("\n")[2].strip()

    found = (0, "plato@127.0.0.1", "")
    assert ask(":workers") == found
    assert ask('{:room, "lobby"}') == found
    assert ask('{room, <<"lobby">>}') == found
    assert ask(":old", "--pg2") == found
    assert ask("talkers", "--scope", ":chat") == found
    assert ask("workers") == (1, "", "erlmesh members :workers --on plato@127.0.0.1")
    assert ask("old", "--pg2") == (1, "", "erlmesh members :old --on plato@127.0.0.1 --pg2")
    assert ask(":talkers", "--scope", "chat") == (1, "", "erlmesh members talkers --on plato@127.0.0.1 --scope chat")
    assert (
        "does not run the scope missing of pg" in erlmesh.run("members", "g", "--on", "plato", "--scope", "missing")[2]
    )
