"""How a node is placed, hidden and guarded: the options for it, and their mirrors in the environment.

An option that is given wins over its variable. What neither can mean is refused with the name of the one it came from.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeVar

from erlmesh.cli.arguments import positive_seconds
from erlmesh.cli.cookie import read_secret_file
from erlmesh.discovery.lookup import check_sources
from erlmesh.discovery.sources import Source, SourceKind, parse_sources
from erlmesh.errors import NodeStartError
from erlmesh.net.addresses import HostInfo, own_address
from erlmesh.net.epmd import Epmd
from erlmesh.net.resolvers import FixedPort, NoEpmd, PortMapper, Resolver, StaticResolver

__all__ = [
    "LOOPBACK",
    "VARIABLES",
    "add_distribution_options",
    "add_resolver_options",
    "default_host",
    "discovery_sources",
    "node_kwargs",
    "resolver_kwargs",
    "unknown_variables",
]

T = TypeVar("T")

VARIABLES: Final = frozenset({
    "ERLMESH_NAME", "ERLMESH_HOST", "ERLMESH_COOKIE", "ERLMESH_COOKIE_FILE", "ERLMESH_COOKIES_FILE", "ERLMESH_JOIN",
    "ERLMESH_HIDDEN", "ERLMESH_ALLOW", "ERLMESH_ALLOW_REMSH", "ERLMESH_LISTEN", "ERLMESH_PORT_MIN", "ERLMESH_PORT_MAX",
    "ERLMESH_ADVERTISE_PORT", "ERLMESH_EPMD", "ERLMESH_ERL_EPMD_PORT", "ERLMESH_RESOLVE", "ERLMESH_NET_TICKTIME",
    "ERLMESH_PREVENT_OVERLAPPING_PARTITIONS", "ERLMESH_RECONNECT", "ERLMESH_DISCOVER", "ERLMESH_STATE",
})  # fmt: skip
"""All that erlmesh reads, beside OTP's ERL_EPMD_PORT."""

LOOPBACK: Final = "127.0.0.1"
AUTO: Final = "auto"

_SERVICE_LINK: Final = re.compile(r"ERLMESH_(SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_\w+)")
"""What Kubernetes sets in every pod when a service is called ``erlmesh``."""

_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("0", "false", "no", "off")


def add_distribution_options(parser: argparse.ArgumentParser) -> None:
    """For commands whose node stays."""
    group = parser.add_argument_group("how the node is placed, hidden and guarded")
    group.add_argument(
        "--hidden", **_boolean_option("keep out of the mesh and of everybody's nodes() [ERLMESH_HIDDEN]")
    )
    group.add_argument(
        "--allow",
        metavar="NODE",
        action="append",
        help="meet this one only: a node, a host, or NAME@, with * and ?; may be repeated [ERLMESH_ALLOW]",
    )
    group.add_argument(
        "--listen",
        metavar="ADDRESS",
        action="append",
        help="where to accept connections, * for everywhere; else at the name's host [ERLMESH_LISTEN]",
    )
    group.add_argument(
        "--port", metavar="N[-M]", help="the port, or the range to take one from [ERLMESH_PORT_MIN, ERLMESH_PORT_MAX]"
    )
    group.add_argument(
        "--advertise-port", metavar="N", help="the port that others are told, if mapped [ERLMESH_ADVERTISE_PORT]"
    )
    add_resolver_options(group)
    group.add_argument(
        "--allow-remsh",
        **_boolean_option("let whoever has the cookie open a shell here, with remsh [ERLMESH_ALLOW_REMSH]"),
    )
    group.add_argument(
        "--epmd", **_boolean_option("be known to EPMD, and ask it for others (the default) [ERLMESH_EPMD]")
    )
    group.add_argument(
        "--reconnect",
        **_boolean_option("dial nodes that were lost until they are back (the default) [ERLMESH_RECONNECT]"),
    )
    group.add_argument(
        "--prevent-overlapping-partitions",
        **_boolean_option(
            "as OTP 25 and later do (the default); the same on all nodes [ERLMESH_PREVENT_OVERLAPPING_PARTITIONS]"
        ),
    )


def add_resolver_options(parser: argparse._ActionsContainer) -> None:
    """For every command: how other nodes are found, and which cookies they have."""
    parser.add_argument(
        "--cookies-file",
        metavar="FILE",
        help="file with lines NODE COOKIE, for those that differ [ERLMESH_COOKIES_FILE]",
    )
    parser.add_argument(
        "--net-ticktime", metavar="SECONDS", help="of silence until a node is given up, 60 [ERLMESH_NET_TICKTIME]"
    )
    parser.add_argument(
        "--erl-epmd-port",
        metavar="N",
        help="no EPMD: every node listens on port N of its own address, as with OTP's option [ERLMESH_ERL_EPMD_PORT]",
    )
    parser.add_argument(
        "--resolve",
        metavar="NODE=HOST:PORT",
        action="append",
        help="where NODE listens, without asking EPMD; may be repeated [ERLMESH_RESOLVE]",
    )


def default_host(options: argparse.Namespace, environment: Mapping[str, str]) -> str:
    """The host of names that are given without one. Raises NodeStartError, which lists the addresses to choose from.

    The loopback address, unless the user names another; ``auto`` finds the one that others reach this machine by.
    """
    found = _OptionSource(options, environment).lookup("host")
    if found is None:
        return LOOPBACK
    host, source = found
    if host == AUTO:
        names = [place.value for place in discovery_sources(options, environment) if place.kind is SourceKind.DNS]
        return own_address(HostInfo.detect(discovery_names=names))
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]+", host):
        raise NodeStartError(f"{source} is {host!r}: it must be a host name, an address, or auto")
    return str(host)


def discovery_sources(options: argparse.Namespace, environment: Mapping[str, str]) -> list[Source]:
    """What ``--discover`` says. Raises NodeStartError."""
    found = _OptionSource(options, environment).lookup("discover")
    if found is None:
        return []
    places = parse_sources(found[0] if isinstance(found[0], list) else [found[0]])
    check_sources(places)
    return places


def _boolean_option(help_text: str) -> dict[str, Any]:
    return {"action": argparse.BooleanOptionalAction, "default": None, "help": help_text}


def node_kwargs(options: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of :class:`erlmesh.Node` that the user has given. Raises NodeStartError in words."""
    given = _OptionSource(options, environment)
    mapper, resolver = _mapper_and_resolver(given)
    ports = _parse_ports(given)
    if isinstance(mapper, FixedPort) and ports is not None:
        raise NodeStartError("--erl-epmd-port says where to listen: leave --port and ERLMESH_PORT_MIN away")
    chosen = {
        "hidden": given.flag("hidden"),
        "allow": given.as_list("allow"),
        "listen": given.as_list("listen"),
        "ports": ports,
        "advertise_port": given.parsed("advertise_port", _parse_port),
        "net_ticktime": given.parsed("net_ticktime", positive_seconds),
        "prevent_overlapping_partitions": given.flag("prevent_overlapping_partitions"),
        "reconnect": given.flag("reconnect"),
        "epmd": mapper,
        "resolver": resolver,
        "cookies": _read_cookies(given),
    }
    return {name: value for name, value in chosen.items() if value is not None}


def resolver_kwargs(options: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any]:
    """The same for a node that only looks in: it finds others as they are to be found, and nobody is told of it."""
    given = _OptionSource(options, environment)
    mapper, resolver = _mapper_and_resolver(given)
    chosen = {
        "epmd": NoEpmd(),
        "resolver": resolver or mapper or Epmd(),
        "cookies": _read_cookies(given),
        "net_ticktime": given.parsed("net_ticktime", positive_seconds),
    }
    return {name: value for name, value in chosen.items() if value is not None}


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like a misspelt one of ours."""
    said = []
    for name in sorted(environment):
        if name.startswith("ERLMESH_") and name not in VARIABLES and not _SERVICE_LINK.fullmatch(name):
            near = get_close_matches(name, sorted(VARIABLES), n=1)
            said.append(f"{name} means nothing here" + (f": is {near[0]} meant?" if near else ""))
    return said


def allow_remsh(options: argparse.Namespace, environment: Mapping[str, str]) -> bool:
    """Whether shells may be opened on the node from others."""
    return bool(_OptionSource(options, environment).flag("allow_remsh"))


class _OptionSource:
    """What the command line or the environment says, with where it said so."""

    def __init__(self, arguments: argparse.Namespace, environment: Mapping[str, str]) -> None:
        self.arguments = arguments
        self.environment = environment

    def lookup(self, name: str) -> tuple[Any, str] | None:
        """The value of an option, or else of its variable, and what to call its source. Empty is as good as absent."""
        option = getattr(self.arguments, name, None)
        if option is not None:
            return option, "--" + name.replace("_", "-")
        variable = "ERLMESH_" + name.upper()
        value = self.environment.get(variable, "").strip()
        return (value, variable) if value else None

    def parsed(self, name: str, parse: Callable[[str, str], T]) -> T | None:
        """``read(text, source)``, which raises NodeStartError for what it does not understand."""
        found = self.lookup(name)
        return None if found is None else parse(*found)

    def as_list(self, name: str) -> list[str] | None:
        """A list: an option that was repeated, or a variable with commas."""
        found = self.lookup(name)
        if found is None:
            return None
        texts: Sequence[str] = found[0] if isinstance(found[0], list) else [found[0]]
        return [item for text in texts for item in re.split(r"[,\s]+", text) if item]

    def flag(self, name: str) -> bool | None:
        found = self.lookup(name)
        if found is None or isinstance(found[0], bool):
            return None if found is None else bool(found[0])
        text, source = found
        if text.lower() not in _TRUE + _FALSE:
            raise NodeStartError(f"{source} is {text!r}: it must be true or false")
        return text.lower() in _TRUE


def _mapper_and_resolver(options: _OptionSource) -> tuple[PortMapper | None, Resolver | None]:
    fixed, epmd = options.parsed("erl_epmd_port", _parse_port), options.flag("epmd")
    if fixed is not None and epmd:
        raise NodeStartError("--erl-epmd-port means that there is no EPMD: leave --epmd away")
    mapper: PortMapper | None = FixedPort(fixed) if fixed is not None else NoEpmd() if epmd is False else None
    table = options.as_list("resolve")
    if table is None:
        return mapper, None
    source = options.lookup("resolve") or ("", "--resolve")
    return mapper, StaticResolver(dict(_parse_resolve(entry, source[1]) for entry in table), mapper or Epmd())


def _parse_resolve(text: str, source: str) -> tuple[str, tuple[str, int]]:
    match = re.fullmatch(r"([^=@]+@[^=@]+)=(?:\[([^\]]+)\]|([^:\[\]]+)):(\d+)", text)
    if match is None:
        raise NodeStartError(f"{source} is {text!r}: it looks like plato@10.0.0.7=10.1.1.1:9100")
    return match[1], (match[2] or match[3], _parse_port(match[4], source))


def _parse_ports(options: _OptionSource) -> range | None:
    if options.arguments.port is not None:
        first, _, last = options.arguments.port.partition("-")
        return _parse_range(first, last or first, "--port")
    least, most = options.lookup("port_min"), options.lookup("port_max")
    if least is None and most is None:
        return None
    if least is None:
        raise NodeStartError("ERLMESH_PORT_MAX needs ERLMESH_PORT_MIN beside it")
    return _parse_range(
        least[0], (most or least)[0], "ERLMESH_PORT_MIN" if most is None else "ERLMESH_PORT_MIN and _MAX"
    )


def _parse_range(first: str, last: str, source: str) -> range:
    low, high = _parse_port(first, source), _parse_port(last, source)
    if low > high:
        raise NodeStartError(f"{source} is {low}-{high}: the range is empty, the smaller number comes first")
    return range(low, high + 1)


def _parse_port(text: str, source: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 65536:
        raise NodeStartError(f"{source} is {text!r}: a port is a number from 1 to 65535")
    return int(text)


def _read_cookies(options: _OptionSource) -> dict[str, str] | None:
    found = options.lookup("cookies_file")
    if found is None:
        return None
    cookies = {}
    for number, line in enumerate(read_secret_file(Path(found[0]).expanduser()).splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or "@" not in words[0]:
            raise NodeStartError(f"line {number} of {found[0]} is not of the form  plato@10.0.0.7 COOKIE")
        cookies[words[0]] = words[1]
    return cookies
