"""``erlmesh COMMAND …``: arguments in, one call each, an exit code out.

0 it worked · 1 it did not (no such node, name taken …) · 2 it was asked in a way that cannot work
130 Ctrl-C · 143 SIGTERM
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Final

from erlmesh import __version__
from erlmesh.cli.log_setup import configure_log
from erlmesh.cli.sigterm import EXIT_SIGTERM, install_sigterm_handler, sigterm_received
from erlmesh.errors import ErlmeshError

__all__ = ["main"]

_DESCRIPTION = "Python as a full member of an Erlang cluster."
_EPILOG = """\
try it: in two terminals
  erlmesh shell --name socrates --cookie monster
  erlmesh shell --name plato --cookie monster
and in the second  Node.ping :socrates"""


COMMANDS: Final = {
    "shell": "a prompt on a node of its own",
    "start": "run a node without a prompt",
    "remsh": "a prompt on a node that runs already",
    "ping": "ask whether a node is there",
    "members": "print the members of a process group",
    "health": "ask whether a node of this machine is well",
    "doctor": "find out step by step why a node cannot be met",
    "epmd": "be the nodes' phone book, or read it",
    "demo": "show nodes meeting, sharing groups, dying and coming back",
}


def build_parser(selected: str) -> argparse.ArgumentParser:
    """All commands, but the options only of the one that is ``asked`` for: the others are not even imported."""
    top = argparse.ArgumentParser(
        prog="erlmesh", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"erlmesh {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == selected:
            module = importlib.import_module(f"erlmesh.cli.{name}")
            command.description, command.epilog = module.__doc__, module.EXAMPLE
            module.add_options(command)
            command.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; raises SystemExit for ``--help`` and for arguments argparse does not know."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a sign shows another
    given = sys.argv[1:] if arguments is None else arguments
    install_sigterm_handler()
    try:
        options = build_parser(given[0] if given else "").parse_args(given)
        configure_log(getattr(options, "verbose", 0))
        return int(options.run(options))
    except ErlmeshError as error:
        print(f"erlmesh: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"erlmesh: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return EXIT_SIGTERM if sigterm_received() else 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: nothing more to say at exit
        return 1
    except OSError as error:
        print(f"erlmesh: {error.strerror or error}", file=sys.stderr)
        return 1
