"""Start a node without a prompt. It runs until SIGTERM or Ctrl-C.

The node takes part in the mesh, in pg, pg2 and global. --verbose logs nodes that connect and disconnect. --expose lets
other nodes call functions. --app runs your process, and the node stops when that process ends. --prompt gives a prompt
if there is a terminal, and none otherwise: use it for a container, which may be started in both ways.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from erlmesh.cli.connecting import join_cluster, node_services
from erlmesh.cli.node_options import OptionValues
from erlmesh.cli.settings import NodeSettings, add_node_options, read_settings
from erlmesh.cli.shutdown import STOP_SIGNALS, run_until_signal
from erlmesh.cli.worker_slot import WorkerSlot, take_worker_slot
from erlmesh.core.exit_reasons import KILLED, NORMAL, SHUTDOWN
from erlmesh.net.addresses import is_loopback
from erlmesh.net.epmd import default_port
from erlmesh.net.event_log import event_log
from erlmesh.net.resolvers import FixedPort
from erlmesh.node import Node
from erlmesh.runtime.option_parsers import parse_count
from erlmesh.runtime.process import Body
from erlmesh.shell import frontend
from erlmesh.terms import Atom, Term

if TYPE_CHECKING:
    from erlmesh.cli.under_port import PortSession

log = event_log("erlmesh")

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh start --name plato@127.0.0.1 --cookie-file ./cookie --join socrates@127.0.0.1 --verbose
  erlmesh start --name plato@127.0.0.1 --cookie-file ./cookie --expose mypackage.models --app mypackage.worker:main"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--under-port",
        action="store_true",
        help="run under a port of an Elixir node, as Erlmesh.Python does: the first line of stdin is the cookie, the "
        "node stops when stdin ends, logs are lines for a program, and --join must succeed",
    )
    parser.add_argument(
        "--wait-for",
        metavar="NAME",
        action="append",
        default=[],
        help="with --under-port: the node is ready when a process has registered this name; may be repeated",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        help="start N nodes, each in a process of its own: NAME-1 … NAME-N. One that fails starts again "
        "[ERLMESH_WORKERS]",
    )
    parser.add_argument("--prompt", action="store_true", help="open a prompt if there is a terminal")
    add_node_options(parser)
    parser.add_argument(
        "--expose",
        metavar="MODULE",
        action="append",
        default=[],
        help="let other nodes call the functions of this Python module: those marked @expose, or else all public ones. "
        "Erlang's module name is the last part of MODULE, or NAME for NAME=MODULE; may be repeated "
        "(erlmesh.otp_functions has what OTP's tools call)",
    )
    parser.add_argument(
        "--app",
        metavar="MODULE:FUNCTION",
        help="run `async def FUNCTION(me)`, or a @serving, as a process; the node stops when it ends",
    )


def run(options: argparse.Namespace) -> int:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # As with `python -m`, modules are found in the current folder.
    slot = take_worker_slot(os.environ)
    if slot is None and (workers := _workers(options)):
        return _run_workers(options, workers)
    watch = None if slot is None else slot.watch()
    port = _open_port(options) if options.under_port else None
    if options.wait_for and port is None:
        raise ValueError("--wait-for is for a node under a port: omit it, or add --under-port")
    exposed = [_import_module(text) for text in options.expose]
    app = _import_function(options.app) if options.app else None
    settings = read_settings(options, cookie=port.cookie if port else None)
    settings = settings if slot is None else slot.settings(settings)
    prompt = options.prompt and frontend.is_interactive()
    if port is not None:
        port.send_grace(settings.config.grace)
    main = partial(_run, settings=settings, exposed=exposed, app=app, prompt=prompt, port=port, slot=slot)
    signals = () if prompt else STOP_SIGNALS  # A prompt handles the signals itself.
    return run_until_signal(
        main, signals=signals, grace=settings.config.grace, watch=None if watch is None else watch.call
    )


def _workers(options: argparse.Namespace) -> int:
    """The number of workers; 0 for one node in this process."""
    found = OptionValues(options, os.environ).parsed("workers", parse_count)
    if not found:
        return 0
    if options.prompt or options.under_port:
        raise ValueError(
            "--workers (or ERLMESH_WORKERS) starts several nodes: omit --prompt and --under-port. "
            "An Elixir supervisor gets one Erlmesh.Python for each node"
        )
    return found


def _run_workers(options: argparse.Namespace, count: int) -> int:
    from erlmesh.cli.worker_supervisor import run_workers  # noqa: PLC0415 - a node of its own does not need it

    settings = read_settings(options)
    ports = settings.config.ports
    if isinstance(settings.config.epmd, FixedPort) or (ports is not None and len([*ports]) < count):
        raise ValueError(f"{count} workers need {count} ports: give a range, --port FIRST-LAST, or omit the port")
    return run_workers(settings.config.name, count, settings.config.grace, sys.argv[1:])


def _open_port(options: argparse.Namespace) -> PortSession:
    from erlmesh.cli.under_port import open_port_session  # noqa: PLC0415 - few nodes have a port

    if options.log_format is not None:
        raise ValueError("--under-port has a log format of its own: omit --log-format")
    if options.prompt or options.cookie is not None or options.cookie_file is not None:
        raise ValueError("--under-port takes the cookie from stdin: omit --cookie, --cookie-file and --prompt")
    return open_port_session(options.wait_for)


async def _run(
    stop_requested: asyncio.Event,
    settings: NodeSettings,
    exposed: list[tuple[ModuleType, str | None]],
    app: Body | None,
    *,
    prompt: bool = False,
    port: PortSession | None = None,
    slot: WorkerSlot | None = None,
) -> int:
    node = Node.from_config(settings.config)
    for module, name in exposed:
        node.expose(module, as_=name)
    announce = partial(print, flush=True) if port is None else partial(log.info, "announced", "%s")
    async with node, node_services(node, settings, announce):
        where = described_addresses(node.internals.listen_addresses)
        tls = " with TLS" if settings.config.tls is not None else ""
        up = f"{node.name} is up: listening on port {node.internals.port}{where}{tls}, {_epmd_status(node, settings)}"
        if port is None:
            print(up, flush=True)
            joining = join_cluster(node, settings.join)
        else:
            log.info("node_up", "%s", up, node=node.name)
            joining = port.join(node, settings, stop_requested)
        report_ready = _report_nothing if slot is None else slot.report_ready
        monitor = _AppMonitor(node, app, stop_requested, report_ready) if app else None
        if slot is not None:
            node._joins.append(slot.siblings)
            for sibling in slot.siblings():  # They start at the same time, so the first attempt may fail.
                node.internals.keep_connecting(sibling)
        if not _reports_ready(app):
            report_ready()
        join_task = asyncio.ensure_future(joining)
        exit_code = await _run_prompt(node, stop_requested) if prompt else await stop_requested.wait()
        join_task.cancel()
    if port is not None and port.code:
        return port.code
    return monitor.code if monitor else int(exit_code) if prompt else 0


def described_addresses(addresses: Sequence[str] | None) -> str:
    """Return where a port can be reached, as words behind it; empty if it is only on this machine."""
    if addresses is None or {"0.0.0.0", "::"} & {*addresses}:  # noqa: S104 - to compare
        return " of every interface"
    outside = [address for address in addresses if not is_loopback(address)]
    return f" of {' and '.join(outside)}" if outside else ""


def _epmd_status(node: Node, settings: NodeSettings) -> str:
    if settings.config.epmd is not None:
        return "not known to any EPMD"
    serving = node.internals.embedded_epmd_addresses
    status = f"known to the EPMD on port {default_port()}"
    return f"{status}{described_addresses(serving)} (this node serves it)" if serving else status


async def _run_prompt(node: Node, stop_requested: asyncio.Event) -> int:
    """Runs a prompt until the user closes it, or until ``stop_requested`` is set. Returns the exit code."""
    shell, end = asyncio.ensure_future(frontend.run(node)), asyncio.ensure_future(stop_requested.wait())
    await asyncio.wait([shell, end], return_when=asyncio.FIRST_COMPLETED)
    exit_code = shell.result() if shell.done() else 0
    for each in (shell, end):
        each.cancel()
    await asyncio.gather(shell, end, return_exceptions=True)
    return exit_code


def _report_nothing() -> None:
    """Nobody waits for the node to be ready."""


def _reports_ready(app: Body | None) -> bool:
    """True for a serving, which calls a function when it has started."""
    return getattr(app, "__name__", "") == "__erlmesh_app__"


class _AppMonitor:
    """Runs the user's process, and stops the node when it ends. ``code`` is the exit code: 1 if it failed."""

    def __init__(self, node: Node, app: Body, stop_requested: asyncio.Event, ready: Callable[[], object]) -> None:
        self.code = 0
        self._stop_requested = stop_requested
        guard = node.spawn_handler(self._receive)
        guard.monitor(node.spawn(app, *([ready] if _reports_ready(app) else [])))

    def _receive(self, message: Term) -> None:
        match message:
            case (Atom("DOWN"), _, _, pid, reason):
                is_killed = reason is KILLED and self._stop_requested.is_set()  # It did not end within the grace.
                if reason not in (NORMAL, SHUTDOWN) and not is_killed:
                    from erlmesh.terms.exit_text import format_reason  # noqa: PLC0415 - for errors only

                    print(f"erlmesh: the process {pid} of --app ended with {format_reason(reason)}", file=sys.stderr)
                    self.code = 1
                self._stop_requested.set()


def _import_module(text: str) -> tuple[ModuleType, str | None]:
    """Imports ``MODULE`` or ``NAME=MODULE``: the module, and the name by which other nodes call it."""
    name, _, module = text.rpartition("=")
    try:
        return importlib.import_module(module), name or None
    except ImportError as error:
        raise ValueError(f"cannot import {module}: {error}. Check its name, and the current folder") from error


def _import_function(text: str) -> Body:
    name, _, function = text.partition(":")
    function = function or "main"
    module = _import_module(name)[0]
    if not hasattr(module, function):
        raise ValueError(f"the module {name} has no function {function}: give MODULE:FUNCTION")
    found: object = getattr(module, function)
    found = getattr(found, "__erlmesh_app__", found)  # a Serving
    if not inspect.iscoroutinefunction(found):
        raise ValueError(
            f"{text} is not an `async def` function, which a process needs, and no serving: give MODULE:FUNCTION"
        )
    return found
