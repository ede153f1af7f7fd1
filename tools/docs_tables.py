"""Write docs/reference/configuration.md: a node's options, from the fields of NodeConfig and their docstrings.

make docs-tables
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Final

from erlmesh.cli.settings import NodeSettings
from erlmesh.runtime.config import CommandOption, NodeConfig, options_of

TARGET: Final = Path(__file__).parent.parent / "docs" / "reference" / "configuration.md"

HEADER: Final = """\
# Configuration of a node

<!-- `make docs-tables` writes this file. Edit the docstrings in erlmesh.runtime.config and erlmesh.cli.settings. -->

Each option is a keyword of `erlmesh.Node` (and a field of `erlmesh.NodeConfig`), an option of `erlmesh start` and
`erlmesh shell`, and an environment variable. An option wins over its variable. An empty variable counts as not set.
A value that is not valid is an error that names its option or variable.

| `Node(…)` | option | variable | |
|---|---|---|---|
"""

FOOTER: Final = """
In a variable with several values, commas or spaces separate them; on the command line the option is repeated.

`ERL_EPMD_PORT` is OTP's own. `ERLMESH_STATE` is the folder for the sockets of `erlmesh health`. `ERLMESH_PURE=1` makes
erlmesh run in pure Python, also if `erlmesh-native` is installed. Kubernetes sets `ERLMESH_PORT` in every pod if a
service is called `erlmesh`; it has no meaning here. erlmesh logs any other `ERLMESH_*` variable as misspelt.
"""


def docstrings(config: type) -> dict[str, str]:
    """Return the docstring below each field, as one line of Markdown."""
    base = config.__base__
    found = docstrings(base) if base is not None and issubclass(base, NodeConfig) else {}
    body = ast.parse(inspect.getsource(config)).body[0]
    assert isinstance(body, ast.ClassDef)
    for each, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and isinstance(following, ast.Expr):
            assert isinstance(following.value, ast.Constant)
            text = re.sub(r":\w+:`([^`]*)`", r"`\1`", " ".join(str(following.value.value).split()))
            found[each.target.id] = text.replace("``", "`")
    return found


def rows(config: type, *, keywords: bool = True) -> list[str]:
    """Return one row for each field that has an option or is a keyword of ``Node``."""
    texts = docstrings(config)
    return [
        f"| {f'`{name}=`' if keywords else ''} | {_options(options)} | {_variables(options)} | {texts[name]} |"
        for name, options in options_of(config).items()
        if options or keywords
    ]


def _options(options: tuple[CommandOption, ...]) -> str:
    switches = (
        f"`--[no-]{each.flag[2:]}`" if each.metavar is None else f"`{each.flag} {each.metavar}`" for each in options
    )
    return ", ".join(switches)


def _variables(options: tuple[CommandOption, ...]) -> str:
    return ", ".join(f"`{variable}`" for each in options for variable in each.variables)


def configuration() -> str:
    """Return the text of docs/reference/configuration.md."""
    table = "\n".join([*rows(NodeConfig), *rows(NodeSettings, keywords=False)])
    return HEADER + table + "\n" + FOOTER


if __name__ == "__main__":
    TARGET.write_text(configuration(), encoding="utf-8")
