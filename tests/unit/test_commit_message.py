"""The rule for commit messages, as ``tools/commit_message.py`` checks it."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parent.parent.parent / "tools/commit_message.py"
BODY = "\n\nA member that has left was still listed.\n"


@pytest.fixture
def check(tmp_path):
    """Exit code, and what is printed, for a message."""

    def check(message):
        file = tmp_path / "COMMIT_EDITMSG"
        file.write_text(message, encoding="utf-8")
        done = subprocess.run([sys.executable, TOOL, file], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    return check


@pytest.mark.parametrize(
    "message",
    [
        "pg: remove a member when its node goes down" + BODY,
        "tests: need no port of their own" + BODY,
        "tests/otp: pass the port to each node" + BODY,
        "pg: " + "x" * 68 + BODY,
        "pg: remove a member\n\nIt was listed.\n\nCo-authored-by: Ada <ada@example.org>\n",
        "# a comment of the editor\npg: remove a member"
        + BODY
        + "# ------------------------ >8 ------------------------\n+x",
        "Merge branch 'main' into pg\n",
        'Revert "pg: remove a member"\n\nThis reverts commit 0f0dee4.\n',
        "fixup! pg: remove a member\n",
    ],
)
def test_a_message_that_follows_the_rule_is_accepted(check, message):
    assert check(message) == (0, "")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("Remove a member" + BODY, "must be 'area: summary'"),
        ("Pg: remove a member" + BODY, "must be 'area: summary'"),
        ("pg:remove a member" + BODY, "must be 'area: summary'"),
        ("pg: " + "x" * 69 + BODY, "has 73 characters"),
        ("pg: remove a member." + BODY, "full stop"),
        ("pg: removed a member" + BODY, "imperative"),
        ("pg: removes a member" + BODY, "imperative"),
        ("pg: Removing a member" + BODY, "imperative"),
        ("pg: remove a member\nIt was listed.\n", "second line must be empty"),
        ("pg: remove a member\n", "no body"),
        ("pg: remove a member\n\n# a comment\n", "no body"),
        ("pg: remove a member\n\nCo-authored-by: Ada <ada@example.org>\n", "no body"),
    ],
)
def test_a_message_that_breaks_the_rule_is_refused_with_the_reason(check, message, reason):
    code, printed = check(message)

    assert code == 1
    assert reason in printed
