"""``erlmesh COMMAND …``: arguments in, one call each, an exit code out.

0 it worked · 1 it did not (no such node, name taken …) · 2 it was asked in a way that cannot work · 130 Ctrl-C
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from erlmesh import __version__
from erlmesh.cli import demo, epmd, members, ping, shell, start
from erlmesh.cli.settings import configure_log
from erlmesh.errors import ErlmeshError

__all__ = ["main"]

_DESCRIPTION = "Python as a full member of an Erlang cluster."
_EPILOG = """\
try it: in two terminals
  erlmesh shell --name socrates --cookie-file ./cookie
  erlmesh shell --name plato --cookie-file ./cookie
and in the second  Node.ping :socrates"""


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="erlmesh", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"erlmesh {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for module in (shell, start, ping, members, epmd, demo):
        name = module.__name__.rpartition(".")[2]
        about = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(
            name,
            help=about[0].lower() + about[1:].rstrip("."),
            description=about,
            epilog=module.EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_options(command)
        command.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; raises SystemExit for ``--help`` and for arguments argparse does not know."""
    options = parser().parse_args(arguments)
    configure_log(getattr(options, "verbose", 0))
    try:
        return int(options.run(options))
    except ErlmeshError as error:
        print(f"erlmesh: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"erlmesh: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
