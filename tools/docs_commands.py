"""Write docs/reference/command-line.md: every command with its options, from the argument parsers.

make docs-tables
"""

from __future__ import annotations

import argparse
import importlib
import re
import textwrap
from pathlib import Path
from typing import Final

from erlmesh.cli.commands import COMMANDS, build_parser

TARGET: Final = Path(__file__).parent.parent / "docs" / "reference" / "command-line.md"

HEADER: Final = """\
# Command line

<!-- `make docs-tables` writes this file. Edit the parsers in erlmesh.cli. -->

`erlmesh COMMAND …`, or `python -m erlmesh COMMAND …`. `erlmesh COMMAND --help` prints the same texts.

| exit status | meaning |
|---|---|
| 0 | The command succeeded. |
| 1 | The command failed: for example, there is no such node, the name is taken, or an option has a wrong value. |
| 2 | The command line is not valid: for example, an option is unknown, or an argument is missing. |
| 130 | The user pressed Ctrl-C. |
| 143 | The command got SIGTERM. |

| command | |
|---|---|
"""


def commands() -> str:
    """Return the text of docs/reference/command-line.md."""
    overview = "".join(
        f"| [`erlmesh {name}`](#erlmesh-{name}) | {_cell(about)} |\n" for name, about in COMMANDS.items()
    )
    shared = _shared("Options of a node", "shell") + _shared("Options of a client", "ping")
    return HEADER + overview + "".join(section(name) for name in COMMANDS) + shared


def section(name: str) -> str:
    """Return the section of one command: description, options and examples."""
    parser = parser_of(name)
    about = "\n\n".join(_text(paragraph) for paragraph in (parser.description or "").strip().split("\n\n"))
    return f"\n## erlmesh {name}\n\n{about}\n\n{_options(parser)}\n{_example(name)}"


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of one command."""
    (subcommands,) = (
        action for action in build_parser(name)._actions if isinstance(action, argparse._SubParsersAction)
    )
    parser = subcommands.choices[name]
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def _options(parser: argparse.ArgumentParser) -> str:
    shared = _node_options(parser)
    own = [each for each in parser._actions if each not in shared and not isinstance(each, argparse._HelpAction)]
    more = ""
    if shared:
        kind = "node" if any("--join" in each.option_strings for each in shared) else "client"
        more = f"\nAlso the [options of a {kind}](#options-of-a-{kind}).\n"
    return _table(own) + more


def _node_options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the options that several commands share."""
    groups = [group for group in parser._action_groups if (group.title or "").startswith("options of the node")]
    return [action for group in groups for action in group._group_actions]


def _shared(title: str, command: str) -> str:
    return f"\n## {title}\n\n{_table(_node_options(parser_of(command)))}"


def _table(actions: list[argparse.Action]) -> str:
    rows = "".join(f"| {_signature(action)} | {_cell(action.help or '')} |\n" for action in actions)
    return "| argument | |\n|---|---|\n" + rows


def _signature(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar}`"
    if isinstance(action, argparse.BooleanOptionalAction):
        return f"`--[no-]{action.option_strings[0][2:]}`"
    value = f" {action.metavar}" if action.nargs is None else f" [{action.metavar}]" if action.nargs == "?" else ""
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def _example(name: str) -> str:
    text = textwrap.dedent(str(importlib.import_module(f"erlmesh.cli.{name}").EXAMPLE)).strip()
    return f"<!-- check: command-examples -->\n```text\n{text}\n```\n"


def _text(text: str) -> str:
    """Return a paragraph with its options as code. Otherwise Sphinx turns two hyphens into a dash."""
    plain = " ".join(text.split()).replace("``", "`")
    return re.sub(r"(?<![\w`-])--?[a-z][\w-]*(?![\w`])", r"`\g<0>`", plain)


def _cell(text: str) -> str:
    return _text(text.replace("%%", "%")).replace("|", r"\|").replace("*", r"\*").replace("<", r"\<")


if __name__ == "__main__":
    TARGET.write_text(commands(), encoding="utf-8")
