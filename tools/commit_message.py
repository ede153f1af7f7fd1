#!/usr/bin/env python3
"""Check a commit message: tools/commit_message.py FILE. Git calls it as the hook commit-msg.

    area: imperative summary, at most 72 characters

    The body says why. It is required.

Exit status: 0 if the message follows the rule of CONTRIBUTING.md. Otherwise 1, and the faults are on standard error.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LONGEST = 72
FIRST_LINE = re.compile(r"[a-z0-9][a-z0-9_./-]*: (?P<summary>\S.*)")
MADE_BY_GIT = ("Merge ", "Revert ", "fixup! ", "squash! ", "amend! ")
SCISSORS = "# ------------------------ >8 ------------------------"
OTHER_FORM = re.compile(r"[A-Za-z]{2,}(ed|ing|[^s]s)")  # added, adding, adds; but address and pass are imperatives
IMPERATIVE = {"bring", "embed", "exceed", "feed", "focus", "need", "proceed", "seed", "speed", "string"}
TRAILER = re.compile(r"[A-Z][A-Za-z]*(-[A-Za-z]+)+: \S.*")


def faults(message: str) -> list[str]:
    """Return one sentence for each fault of ``message``."""
    lines = [line.rstrip() for line in message.partition(SCISSORS)[0].splitlines() if not line.startswith("#")]
    while lines and not lines[0]:
        lines.pop(0)
    if not lines:
        return ["The message is empty."]
    first, rest = lines[0], lines[1:]
    if first.startswith(MADE_BY_GIT):
        return []
    return [*faults_of_first_line(first), *faults_of_body(rest)]


def faults_of_first_line(first: str) -> list[str]:
    found = []
    if len(first) > LONGEST:
        found.append(f"The first line has {len(first)} characters. At most {LONGEST} are allowed.")
    if first.endswith("."):
        found.append("The first line must not end with a full stop.")
    matched = FIRST_LINE.fullmatch(first)
    if matched is None:
        found.append("The first line must be 'area: summary'. The area is a word in lower case, such as pg or docs.")
        return found
    verb = matched["summary"].split()[0]
    if OTHER_FORM.fullmatch(verb) and verb.lower() not in IMPERATIVE:
        found.append(f"The summary must start with a verb in the imperative, such as 'add', not with {verb!r}.")
    return found


def faults_of_body(rest: list[str]) -> list[str]:
    found = []
    if rest and rest[0]:
        found.append("The second line must be empty.")
    if not any(line and not TRAILER.fullmatch(line) for line in rest):
        found.append("There is no body. The body must say why the change is made.")
    return found


def main(path: str) -> int:
    message = Path(path).read_text(encoding="utf-8")
    found = faults(message)
    for fault in found:
        print(f"commit message: {fault}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
