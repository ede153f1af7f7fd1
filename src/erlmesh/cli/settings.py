"""The options that every command with a node shares, and their mirrors in the environment."""

from __future__ import annotations

import argparse
import logging
import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from erlmesh.cli.cookie import find_cookie
from erlmesh.cli.node_options import (
    AUTO,
    LOOPBACK,
    add_distribution_options,
    add_resolver_options,
    allow_remsh,
    default_host,
    discovery_sources,
    node_kwargs,
    unknown_variables,
)
from erlmesh.discovery.sources import Source
from erlmesh.errors import NodeStartError

__all__ = ["NodeSettings", "add_node_options", "complete_name", "ephemeral_name", "read_settings"]

log = logging.getLogger("erlmesh")

COOKIE_HELP: Final = "the cluster's secret; other users of this machine see it in `ps`, so a file is better"


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What a node needs to start. ``chosen`` says that its name was completed or made up, and should be shown; ``form``
    are further arguments of :class:`erlmesh.Node`.
    """

    name: str
    cookie: str
    join: tuple[str, ...]
    name_generated: bool
    node_kwargs: dict[str, Any] = field(default_factory=dict)
    discover: tuple[Source, ...] = ()
    allow_remsh: bool = False


def add_node_options(parser: argparse.ArgumentParser, *, joins: bool = True) -> None:
    """Adds ``--name``, ``--host``, ``--cookie``, ``--cookie-file`` and ``--verbose``; and for a node that stays
    (``joins``) ``--join`` and all that :mod:`erlmesh.cli.node_options` knows.
    """
    parser.add_argument("--name", metavar="NAME[@HOST]", help="this node's name [ERLMESH_NAME]")
    parser.add_argument(
        "--host",
        metavar="HOST",
        help=f"for names without one, else {LOOPBACK}; {AUTO} finds this machine's address [ERLMESH_HOST]",
    )
    parser.add_argument("--cookie", metavar="TEXT", help=f"{COOKIE_HELP} [ERLMESH_COOKIE]")
    parser.add_argument(
        "--cookie-file", metavar="FILE", help="file with the cookie, else ~/.erlang.cookie [ERLMESH_COOKIE_FILE]"
    )
    if joins:
        parser.add_argument(
            "--join", metavar="NODE", action="append", help="node to meet at the start; may be repeated [ERLMESH_JOIN]"
        )
        parser.add_argument(
            "--discover",
            metavar="WHERE",
            action="append",
            help="look for others: static:a@host,b@host, dns:NAME, srv:NAME, file:PATH; may be repeated "
            "[ERLMESH_DISCOVER]",
        )
        add_distribution_options(parser)
    else:
        add_resolver_options(parser)
    add_verbose(parser)


def add_verbose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say who comes and goes; -vv says more")


def read_settings(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> NodeSettings:
    """The settings of a node that stays. Raises NodeStartError in words."""
    for sentence in unknown_variables(environment):
        log.warning("%s", sentence)
    given, host = arguments.name or environment.get("ERLMESH_NAME"), default_host(arguments, environment)
    name = complete_name(given or _default_name(arguments, environment), host)
    join = getattr(arguments, "join", None) or re.split(r"[,\s]+", environment.get("ERLMESH_JOIN", "").strip())
    cookie = find_cookie(arguments.cookie, arguments.cookie_file, environment)
    joins = tuple(_peer_name(peer, name) for peer in join if peer)
    discover, placed = tuple(discovery_sources(arguments, environment)), node_kwargs(arguments, environment)
    return NodeSettings(
        name, cookie, joins, name != given, placed, discover, allow_remsh=allow_remsh(arguments, environment)
    )


def _default_name(arguments: argparse.Namespace, environment: Mapping[str, str]) -> str:
    """A name for a node that was given none: in a container, where the host is to be found out, that of the host."""
    if AUTO in (arguments.host, environment.get("ERLMESH_HOST")):
        return re.sub(r"[^A-Za-z0-9_-]", "_", socket.gethostname().partition(".")[0]) or "py"
    return f"py{os.getpid()}"


def complete_name(name: str, host: str = LOOPBACK) -> str:
    """``name``, with ``host`` if it has none. Raises NodeStartError if it is no node name."""
    full = name if "@" in name else f"{name}@{host}"
    if not re.fullmatch(r"[A-Za-z0-9_-]+@[A-Za-z0-9_.:%-]+", full) or len(full) > 255:
        raise NodeStartError(f"{name!r} is no node name: it looks like socrates@127.0.0.1")
    return full


def _peer_name(peer: str, name: str) -> str:
    """The node meant by ``--join``; a long name and a short one never meet, so they are refused before they try."""
    host = name.partition("@")[2]
    full = complete_name(peer if "@" in peer else f"{peer}@{host}")
    if _is_long_name(full) != _is_long_name(name):
        raise NodeStartError(
            f"{name} and {full} cannot meet: one has a long name (its host has a dot, or is an address), "
            "the other a short one"
        )
    return full


def _is_long_name(name: str) -> bool:
    host = name.partition("@")[2]
    return "." in host or ":" in host


def ephemeral_name(target: str) -> str:
    """A name for a node that only looks in on ``target`` and goes: long or short as that one is."""
    return f"erlmesh-{os.getpid()}-{secrets.token_hex(3)}@{LOOPBACK if _is_long_name(target) else 'localhost'}"
