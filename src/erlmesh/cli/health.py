"""Check the health of a running node on this machine, for example in the health check of a container.

The check uses a unix socket in the folder of the node. It needs no Erlang connection, no name and no cookie. Nodes of
`erlmesh start` and `erlmesh shell` serve the socket.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from typing import Any

from erlmesh.cli.output import shown
from erlmesh.errors import NodeStartError
from erlmesh.net.health_socket import read_health, socket_folders
from erlmesh.runtime.option_parsers import parse_seconds

__all__ = ["EXAMPLE", "add_options", "run", "running_nodes"]

EXAMPLE = """\
example:
  erlmesh health
  ok: plato@10.0.0.7, its event loop answers in 0.2 ms, connected with 2 nodes, up for 35 s

The exit status is 0 if the event loop of the node answers in time. It is 1 if the loop is blocked, or if no node
runs."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name",
        metavar="NAME[@HOST]",
        help="the node to check, if this user runs several here; or all workers of that name [ERLMESH_NAME]",
    )
    parser.add_argument("--json", action="store_true", help="print the report of the node as JSON")
    parser.add_argument("--timeout", metavar="SECONDS", default="3", help="time to wait for the answer, 3")


def run(options: argparse.Namespace) -> int:
    timeout = parse_seconds(options.timeout, "--timeout")
    name = options.name or os.environ.get("ERLMESH_NAME")
    found = running_nodes(name, timeout) or _running_workers(name, timeout)
    if not found:
        print(f"no node {name + ' ' if name else ''}of this user runs here")
        return 1
    if len(found) > 1 and not _is_name_of_workers(name, found):
        raise NodeStartError(f"several nodes run here: give --name, one of {', '.join(node for node, _ in found)}")
    for node, answer in found:
        print(json.dumps({"node": node, **answer}) if options.json else shown(_format_line(node, answer)))
    return 0 if all(answer.get("alive") is True for _, answer in found) else 1


def _running_workers(name: str | None, timeout: float) -> list[tuple[str, dict[str, Any]]]:
    """The workers of `erlmesh start --workers` of that name: plato-1@host, plato-2@host …"""
    if name is None:
        return []
    return [(node, report) for node, report in running_nodes(None, timeout) if _is_worker(name, node)]


def _is_worker(name: str, node: str) -> bool:
    (alive, _, host), (own_alive, _, own_host) = name.partition("@"), node.partition("@")
    base, _, number = own_alive.rpartition("-")
    return base == alive and number.isdigit() and host in ("", own_host)


def _is_name_of_workers(name: str | None, found: list[tuple[str, dict[str, Any]]]) -> bool:
    return name is not None and all(_is_worker(name, node) for node, _ in found)


def running_nodes(name: str | None, timeout: float) -> list[tuple[str, dict[str, Any]]]:
    """The running nodes of this user with their reports; only those called ``name``, if it is not None."""
    found = [(node, _query(path, timeout)) for node, path in _sockets() if name in (None, node, node.partition("@")[0])]
    return [(node, report) for node, report in found if report is not None]


def _sockets() -> list[tuple[str, str]]:
    """The names of all nodes that have a socket here, and the paths of the sockets."""
    found = []
    for folder in socket_folders(os.environ):
        with contextlib.suppress(OSError):  # there is no such folder
            found += [
                (file.removesuffix(".health"), f"{folder}/{file}")
                for file in sorted(os.listdir(folder))  # noqa: PTH208 - pathlib is slow to import
                if file.endswith(".health")
            ]
    return found


def _query(path: str, timeout: float) -> dict[str, Any] | None:
    """The report of the node; None if the node does not run any more."""
    try:
        return read_health(path, timeout)
    except (ConnectionRefusedError, FileNotFoundError):
        return None
    except OSError as fault:
        return {"alive": False, "fault": f"no answer: {fault}"}


def _format_line(node: str, report: dict[str, Any]) -> str:
    if report.get("alive") is not True:
        culprit = f" by {report['blocked_by']}" if report.get("blocked_by") else ""
        blocked = f"its event loop is blocked for {report.get('loop_ms')} ms{culprit}"
        return f"not ok: {node}, " + (report.get("fault") or blocked)
    others, blocked_peers = report.get("nodes", 0), report.get("blocked_peers") or {}
    return (
        f"ok: {node}, its event loop answers in {report['loop_ms']} ms, connected with {others} "
        f"node{'' if others == 1 else 's'}, up for {report.get('up', 0):.0f} s"
        + "".join(f"; {peer} is blocked for {seconds:.0f} s" for peer, seconds in blocked_peers.items())
    )
