"""The commands of ``erlmesh``: the parser of their options, and the exit code of an error.

Each command is a module of erlmesh.cli with a text ``EXAMPLE`` and the functions ``add_options`` and ``run``. ``run``
returns an exit code.

=====  ==================================================================
code   meaning
=====  ==================================================================
0      success
1      the command failed: no such node, the name is taken …
2      the arguments are not valid
130    Ctrl-C
143    SIGTERM
=====  ==================================================================
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Final

from erlmesh.cli.output import print_error
from erlmesh.cli.sigterm import EXIT_SIGTERM, install_sigterm_handler, sigterm_received
from erlmesh.errors import ErlmeshError

__all__ = ["COMMANDS", "build_parser", "run_command"]

_DESCRIPTION = "Run Python programs as nodes of an Erlang cluster."
_EPILOG = """\
example, in two terminals:
  erlmesh shell --name socrates --cookie monster
  erlmesh shell --name plato --cookie monster
then type in the second one:  Node.ping :socrates

`erlmesh COMMAND --help` shows the options and an example of each command."""


COMMANDS: Final = {
    "shell": "start a node with a prompt",
    "start": "start a node without a prompt",
    "remsh": "open a prompt on a running node",
    "ping": "check whether a node can be reached",
    "bench": "measure the connection to a node",
    "members": "print the members of a process group",
    "map": "show the cluster in a web browser",
    "top": "show nodes, connections, processes and groups in the terminal",
    "health": "check the health of a node on this machine",
    "doctor": "diagnose step by step why a node cannot be reached",
    "certs": "make certificates for TLS between nodes",
    "epmd": "run the port mapper daemon (EPMD), or list its names",
    "demo": "show nodes that connect, share groups, crash and restart",
}


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Finds the width of the terminal itself. argparse imports shutil for that, which imports all compressors."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    """The width of the terminal as ``shutil.get_terminal_size`` finds it."""
    with contextlib.suppress(KeyError, ValueError):
        if (columns := int(os.environ["COLUMNS"])) > 0:
            return columns
    with contextlib.suppress(AttributeError, ValueError, OSError):  # stdout is closed, or is not a terminal
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    return 80


class _Version(argparse.Action):
    """Prints the version. Only then are the modules imported that know the rest."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from erlmesh.cli.build_info import describe_build  # noqa: PLC0415

        print(f"erlmesh {describe_build()}")
        parser.exit()


def build_parser(selected: str) -> argparse.ArgumentParser:
    """All commands, with the options of ``selected`` only.

    The modules of the other commands are not imported. That keeps ``erlmesh health`` fast.
    """
    top = argparse.ArgumentParser(
        prog="erlmesh", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=_HelpFormatter
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version, the build and the event loop")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about, formatter_class=_HelpFormatter)
        if name == selected:
            module = importlib.import_module(f"erlmesh.cli.{name}")
            command.description, command.epilog = module.__doc__, module.EXAMPLE
            module.add_options(command)
            command.set_defaults(run=module.run)
    return top


def run_command(given: Sequence[str]) -> int:
    """Runs the command and returns its exit code. Raises SystemExit for ``--help`` and for unknown arguments."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # A terminal that cannot show a character shows a replacement.
    install_sigterm_handler()
    try:
        if not given:
            build_parser("").print_help(sys.stderr)
            return 2
        options = build_parser(given[0]).parse_args(given)
        if "logging" in sys.modules:  # A command that logs has imported it. `erlmesh health` does not.
            from erlmesh.cli.log_setup import chosen_format, configure_log  # noqa: PLC0415

            configure_log(getattr(options, "verbose", 0), chosen_format(options, os.environ))
        return int(options.run(options))
    except ErlmeshError as error:
        print_error(error)
        return 1
    except ValueError as error:
        print_error(error)
        return 2
    except KeyboardInterrupt:
        return EXIT_SIGTERM if sigterm_received() else 130
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # The reader is gone; flushing at exit must not fail.
        return 1
    except OSError as error:
        print(f"erlmesh: {error.strerror or error}", file=sys.stderr)
        return 1
