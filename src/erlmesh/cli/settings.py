"""The settings of a command with a node: from its options and from the environment."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import socket
from collections.abc import Mapping
from typing import Final

from erlmesh.cli.log_setup import add_verbose
from erlmesh.cli.node_options import (
    AUTO,
    LOOPBACK,
    OptionValues,
    add_options_of,
    client_options,
    default_host,
    discovery_sources,
    node_options,
    unknown_variables,
    variables_of,
)
from erlmesh.cli.term_parser import parse_atom
from erlmesh.discovery.sources import Source
from erlmesh.errors import NodeStartError
from erlmesh.net.cookie_files import find_cookie
from erlmesh.net.event_log import event_log
from erlmesh.proto.handshake import is_long_name
from erlmesh.records import field, record
from erlmesh.runtime.config import CommandOption, NodeConfig, options
from erlmesh.runtime.option_parsers import parse_endpoint, parse_log_format, parse_switch, parse_text

__all__ = [
    "VARIABLES",
    "NodeSettings",
    "add_node_options",
    "client_config",
    "complete_name",
    "ephemeral_name",
    "read_settings",
]

log = event_log("erlmesh")


@record(frozen=True)
class NodeSettings:
    """What ``erlmesh start`` and ``erlmesh shell`` need. The options here are for the command line alone."""

    config: NodeConfig
    """The node, without the nodes to connect with: the command reports why one of them cannot be reached."""
    join: tuple[str, ...] = ()
    """The nodes to connect with at the start."""
    name_generated: bool = False
    """The name was completed or generated, so the user may want to see it."""
    discover: tuple[Source, ...] = field(
        default=(),
        metadata=options(
            CommandOption(
                "--discover",
                "find other nodes: static:a@host,b@host, dns:NAME, srv:NAME, file:PATH, gossip:multicast; "
                "may be repeated",
                "WHERE",
                repeated=True,
            )
        ),
    )
    """Where to find other nodes; see *Discovery* in connecting.md."""
    allow_remsh: bool = field(
        default=False,
        metadata=options(
            CommandOption("--allow-remsh", "let anyone with the cookie open a shell on this node, with erlmesh remsh"),
            parse=parse_switch,
        ),
    )
    """Let other nodes open a shell here (``erlmesh remsh``). Such a shell can run any code."""
    log_format: str = field(
        default="text",
        metadata=options(
            CommandOption("--log-format", "the lines of the log: text, or json with fields", "FORMAT"),
            parse=parse_log_format,
        ),
    )
    """The format of the log on stderr: ``text``, or ``json``, one object in a line with the fields of the event."""
    metrics: tuple[str, int] | None = field(
        default=None,
        metadata=options(
            CommandOption(
                "--metrics",
                "serve metrics for Prometheus over HTTP, on the loopback address without HOST",
                "[HOST:]PORT",
            ),
            parse=parse_endpoint,
        ),
    )
    """Host and port of the metrics for Prometheus; a worker of ``--workers`` uses the port plus its number, less 1.
    Whoever can connect can read them."""
    map: tuple[str, int] | None = field(
        default=None,
        metadata=options(
            CommandOption(
                "--map",
                "serve a page that shows the cluster, on the loopback address without HOST; others need a token",
                "[HOST:]PORT",
            ),
            parse=parse_endpoint,
        ),
    )
    """Host and port of the map; of the workers of ``--workers``, the first one has it."""
    map_token_file: str | None = field(
        default=None,
        metadata=options(
            CommandOption(
                "--map-token-file",
                "the token that viewers of the map need, at least 16 characters; without it, one is made and printed "
                "if it is needed",
                "FILE",
            ),
            parse=parse_text,
        ),
    )
    """The file with the token of the map. Other users must not be able to read it."""
    map_control: bool = field(
        default=False,
        metadata=options(
            CommandOption("--map-control", "give the map buttons: ping a node, disconnect two nodes, end a process"),
            parse=parse_switch,
        ),
    )
    """Let viewers of the map act on the cluster."""
    map_record: str | None = field(
        default=None,
        metadata=options(
            CommandOption("--map-record", "record what the map shows; `erlmesh map FILE` opens it", "FILE"),
            parse=parse_text,
        ),
    )
    """Where the map is recorded. The file and the one before it, ``FILE.1``, have at most 64 MiB together."""


VARIABLES: Final = variables_of(NodeConfig, NodeSettings)
"""Every variable that erlmesh reads, beside OTP's ERL_EPMD_PORT."""


KNOWN_COOKIES: Final = frozenset({"monster", "secret", "cookie", "test"})
"""Cookies of examples."""


def add_node_options(parser: argparse.ArgumentParser, *, client: bool = False) -> None:
    """Adds the options of a node; for a ``client``, which asks another node and ends, only those that it needs."""
    group = parser.add_argument_group("options of the node, with their environment variables")
    add_options_of(group, NodeConfig, NodeSettings, clients=client)
    add_verbose(parser)


def read_settings(
    arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ, cookie: str | None = None
) -> NodeSettings:
    """The settings of a node that keeps running. Logs misspelt variables. Raises NodeStartError.

    A ``cookie`` from elsewhere comes before all options and variables.
    """
    for sentence in unknown_variables(environment, VARIABLES):
        log.warning("variable_unknown", "%s", sentence)
    values = OptionValues(arguments, environment)
    given, host = arguments.name or environment.get("ERLMESH_NAME"), default_host(values)
    name = complete_name(given or _default_name(values), host)
    if cookie is None:
        cookie = find_cookie(arguments.cookie, arguments.cookie_file, environment)
    if arguments.cookie is not None:
        log.warning("cookie_on_command_line", "%s", _cookie_advice(cookie))
    chosen = node_options(values)
    return NodeSettings(
        join=tuple(_peer_name(peer, name) for peer in chosen.pop("join", ())),
        config=NodeConfig(name, cookie=cookie, **chosen),
        name_generated=name != given,
        discover=tuple(discovery_sources(values)),
        allow_remsh=bool(values.parsed("allow_remsh", parse_switch)),
        log_format=values.parsed("log_format", parse_log_format) or "text",
        metrics=values.parsed("metrics", parse_endpoint),
        map=values.parsed("map", parse_endpoint),
        map_token_file=values.parsed("map_token_file", parse_text),
        map_control=bool(values.parsed("map_control", parse_switch)),
        map_record=values.parsed("map_record", parse_text),
    )


def _cookie_advice(cookie: str) -> str:
    if cookie in KNOWN_COOKIES:
        return f"the cookie {cookie!r} is an example that everybody knows: it protects nothing"
    return (
        "every user of this machine can read --cookie in the list of processes: a file is better, "
        "~/.erlang.cookie or --cookie-file"
    )


def client_config(
    arguments: argparse.Namespace, target: str, environment: Mapping[str, str] = os.environ
) -> tuple[NodeConfig, str]:
    """A hidden node that asks ``target`` and ends, and the full name of ``target``. Raises NodeStartError."""
    values = OptionValues(arguments, environment)
    host = default_host(values)
    peer = complete_name(target, host)
    name = complete_name(arguments.name, host) if arguments.name else ephemeral_name(peer)
    cookie = find_cookie(arguments.cookie, arguments.cookie_file, environment)
    return NodeConfig(name, cookie=cookie, hidden=True, **client_options(values)), peer


def _default_name(values: OptionValues) -> str:
    """A name for a node that was given none. With ``--host auto`` (a container) it is the name of the machine."""
    host = values.lookup("host")
    if host is not None and host[0] == AUTO:
        return re.sub(r"[^A-Za-z0-9_-]", "_", socket.gethostname().partition(".")[0]) or "py"
    return f"py{os.getpid()}"


def complete_name(name: str, host: str = LOOPBACK) -> str:
    """``name``, with ``host`` if it has none. Raises NodeStartError if it is not a node name.

    A node name is an atom, so ``:plato`` and ``:"plato@127.0.0.1"`` are accepted, too.
    """
    name = parse_atom(name)
    full = name if "@" in name else f"{name}@{host}"
    if not re.fullmatch(r"[A-Za-z0-9_-]+@[A-Za-z0-9_.:%-]+", full) or len(full) > 255:
        raise NodeStartError(f"{name!r} is not a node name: it looks like socrates@127.0.0.1")
    return full


def _peer_name(peer: str, name: str) -> str:
    """The node that ``--join`` means. Raises NodeStartError if one name is long and the other short."""
    full = complete_name(peer, name.partition("@")[2])
    if is_long_name(full) != is_long_name(name):
        raise NodeStartError(
            f"{name} and {full} cannot connect: one has a long name (its host has a dot, or is an address), "
            "the other a short one. Give both the same kind of host"
        )
    return full


def ephemeral_name(target: str) -> str:
    """A random name for a node that asks ``target`` and ends; long or short, as the name of ``target`` is."""
    return f"erlmesh-{os.getpid()}-{secrets.token_hex(3)}@{LOOPBACK if is_long_name(target) else 'localhost'}"
