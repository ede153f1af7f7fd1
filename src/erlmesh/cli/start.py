"""Run a node without a prompt, until SIGTERM or Ctrl-C.

It takes part in the mesh, in pg, pg2 and global; ``--verbose`` says who comes and goes. ``--expose`` offers functions
to other nodes; ``--app`` runs a process of yours, with whose end the node ends. With ``--prompt`` it has a prompt after
all where there is a terminal: what a container's command should be, which may be started with or without one.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

from erlmesh.cli.connecting import join_cluster, node_services
from erlmesh.cli.settings import NodeSettings, add_node_options, read_settings
from erlmesh.cli.shutdown import STOP_SIGNALS, run_until_signal
from erlmesh.net.epmd import default_port
from erlmesh.node import Node
from erlmesh.runtime.process import Body
from erlmesh.shell import frontend
from erlmesh.terms import Atom, Term

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh start --name plato@127.0.0.1 --cookie-file ./cookie --join socrates@127.0.0.1 --verbose
  erlmesh start --name plato@127.0.0.1 --cookie-file ./cookie --expose mypackage.models --app mypackage.worker:main"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", action="store_true", help="be a shell if there is a terminal")
    add_node_options(parser)
    parser.add_argument(
        "--expose",
        metavar="MODULE",
        action="append",
        default=[],
        help="let other nodes call this Python module's functions, those marked @expose or else all public ones, "
        "by the last part of its name, or as NAME for NAME=MODULE; may be repeated "
        "(erlmesh.otp_functions: what OTP's tools ask for)",
    )
    parser.add_argument(
        "--app", metavar="MODULE:FUNCTION", help="run `async def FUNCTION(me)` as a process; the node ends with it"
    )


def run(options: argparse.Namespace) -> int:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # modules lie where one stands, as for `python -m`
    offered = [_import_module(text) for text in options.expose]
    app = _import_function(options.app) if options.app else None
    chosen, prompt = read_settings(options), options.prompt and frontend.is_interactive()
    main = partial(_run, settings=chosen, exposed=offered, app=app, prompt=prompt)
    return run_until_signal(main, signals=() if prompt else STOP_SIGNALS)  # a prompt has its own ways to be left


async def _run(
    stop_requested: asyncio.Event,
    settings: NodeSettings,
    exposed: list[tuple[ModuleType, str | None]],
    app: Body | None,
    *,
    prompt: bool = False,
) -> int:
    node = Node.from_config(settings.config)
    for module, name in exposed:
        node.expose(module, as_=name)
    async with node, node_services(node, settings):
        known = (
            "not known to any EPMD"
            if settings.config.epmd is not None
            else f"known to the EPMD on port {default_port()}"
        )
        print(f"{node.name} is up: listening on port {node.port}, {known}", flush=True)
        meeting = asyncio.ensure_future(join_cluster(node, settings.join))
        watched = _AppMonitor(node, app, stop_requested) if app else None
        left = await _run_prompt(node, stop_requested) if prompt else await stop_requested.wait()
        meeting.cancel()
    return watched.code if watched else int(left) if prompt else 0


async def _run_prompt(node: Node, stop_requested: asyncio.Event) -> int:
    """A prompt until it is left, with its exit code, or until it is ``over``."""
    shell, end = asyncio.ensure_future(frontend.run(node)), asyncio.ensure_future(stop_requested.wait())
    await asyncio.wait([shell, end], return_when=asyncio.FIRST_COMPLETED)
    left = shell.result() if shell.done() else 0
    for each in (shell, end):
        each.cancel()
    await asyncio.gather(shell, end, return_exceptions=True)
    return left


class _AppMonitor:
    """The user's process: when it ends, all is over; ``code`` says how."""

    def __init__(self, node: Node, app: Body, stop_requested: asyncio.Event) -> None:
        self.code = 0
        self._stop_requested = stop_requested
        guard = node.spawn_handler(self._receive)
        guard.monitor(node.spawn(app))

    def _receive(self, message: Term) -> None:
        match message:
            case (Atom("DOWN"), _, _, pid, reason):
                if reason not in (Atom("normal"), Atom("shutdown")):
                    print(f"erlmesh: the app {pid} ended: {reason}", file=sys.stderr)
                    self.code = 1
                self._stop_requested.set()


def _import_module(text: str) -> tuple[ModuleType, str | None]:
    """``MODULE`` or ``NAME=MODULE``: the module, and the name others shall call it by."""
    name, _, module = text.rpartition("=")
    try:
        return importlib.import_module(module), name or None
    except ImportError as error:
        raise ValueError(f"cannot import {module}: {error}") from error


def _import_function(text: str) -> Body:
    name, _, function = text.partition(":")
    found = getattr(_import_module(name)[0], function or "main", None)
    if not inspect.iscoroutinefunction(found):
        raise ValueError(f"{text} is no `async def` function to run as a process: say MODULE:FUNCTION")
    return found
