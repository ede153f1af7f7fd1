"""The entry point ``erlmesh COMMAND …``. It imports little: ``erlmesh --version`` needs no parser."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code. Raises SystemExit for ``--help`` and for unknown arguments."""
    given = sys.argv[1:] if arguments is None else arguments
    if given == ["--version"]:
        from erlmesh.cli.build_info import describe_build  # noqa: PLC0415 - as the header says

        print(f"erlmesh {describe_build()}")
        return 0
    if given[:1] == ["start"] and "--under-port" in given:
        from erlmesh.cli.port_guard import start_guard  # noqa: PLC0415 - as the header says

        start_guard()  # before the imports of the node, so that the guard stays small
    from erlmesh.cli.commands import run_command  # noqa: PLC0415 - as the header says

    return run_command(given)
