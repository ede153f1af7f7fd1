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

from erlmesh.cli.cookie import read_protected
from erlmesh.cli.seconds import positive_seconds
from erlmesh.discovery.looking import check_sources
from erlmesh.discovery.sources import Kind, Source, sources
from erlmesh.errors import NodeStartError
from erlmesh.net.addresses import HostInfo, own_address
from erlmesh.net.epmd import Epmd
from erlmesh.net.resolvers import FixedPort, NoEpmd, PortMapper, Resolver, StaticResolver

__all__ = [
    "LOOPBACK",
    "VARIABLES",
    "add_form_options",
    "add_way_options",
    "form",
    "host_of",
    "places_to_look",
    "unknown_variables",
    "way",
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

_YES: Final = ("1", "true", "yes", "on")
_NO: Final = ("0", "false", "no", "off")


def add_form_options(parser: argparse.ArgumentParser) -> None:
    """For commands whose node stays."""
    group = parser.add_argument_group("how the node is placed, hidden and guarded")
    group.add_argument("--hidden", **_switch("keep out of the mesh and of everybody's nodes() [ERLMESH_HIDDEN]"))
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
    add_way_options(group)
    group.add_argument(
        "--allow-remsh", **_switch("let whoever has the cookie open a shell here, with remsh [ERLMESH_ALLOW_REMSH]")
    )
    group.add_argument("--epmd", **_switch("be known to EPMD, and ask it for others (the default) [ERLMESH_EPMD]"))
    group.add_argument(
        "--reconnect", **_switch("dial nodes that were lost until they are back (the default) [ERLMESH_RECONNECT]")
    )
    group.add_argument(
        "--prevent-overlapping-partitions",
        **_switch(
            "as OTP 25 and later do (the default); the same on all nodes [ERLMESH_PREVENT_OVERLAPPING_PARTITIONS]"
        ),
    )


def add_way_options(parser: argparse._ActionsContainer) -> None:
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


def host_of(options: argparse.Namespace, environment: Mapping[str, str]) -> str:
    """The host of names that are given without one. Raises NodeStartError, which lists the addresses to choose from.

    The loopback address, unless the user names another; ``auto`` finds the one that others reach this machine by.
    """
    found = _Given(options, environment).text("host")
    if found is None:
        return LOOPBACK
    host, source = found
    if host == AUTO:
        names = [place.value for place in places_to_look(options, environment) if place.kind is Kind.DNS]
        return own_address(HostInfo.detect(discovery_names=names))
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]+", host):
        raise NodeStartError(f"{source} is {host!r}: it must be a host name, an address, or auto")
    return str(host)


def places_to_look(options: argparse.Namespace, environment: Mapping[str, str]) -> list[Source]:
    """What ``--discover`` says. Raises NodeStartError."""
    found = _Given(options, environment).text("discover")
    if found is None:
        return []
    places = sources(found[0] if isinstance(found[0], list) else [found[0]])
    check_sources(places)
    return places


def _switch(about: str) -> dict[str, Any]:
    return {"action": argparse.BooleanOptionalAction, "default": None, "help": about}


def form(options: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of :class:`erlmesh.Node` that the user has given. Raises NodeStartError in words."""
    given = _Given(options, environment)
    mapper, resolver = _mapper_and_resolver(given)
    ports = _ports(given)
    if isinstance(mapper, FixedPort) and ports is not None:
        raise NodeStartError("--erl-epmd-port says where to listen: leave --port and ERLMESH_PORT_MIN away")
    chosen = {
        "hidden": given.flag("hidden"),
        "allow": given.several("allow"),
        "listen": given.several("listen"),
        "ports": ports,
        "advertise_port": given.one("advertise_port", _port),
        "net_ticktime": given.one("net_ticktime", positive_seconds),
        "prevent_overlapping_partitions": given.flag("prevent_overlapping_partitions"),
        "reconnect": given.flag("reconnect"),
        "epmd": mapper,
        "resolver": resolver,
        "cookies": _cookies(given),
    }
    return {name: value for name, value in chosen.items() if value is not None}


def way(options: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any]:
    """The same for a node that only looks in: it finds others as they are to be found, and nobody is told of it."""
    given = _Given(options, environment)
    mapper, resolver = _mapper_and_resolver(given)
    chosen = {
        "epmd": NoEpmd(),
        "resolver": resolver or mapper or Epmd(),
        "cookies": _cookies(given),
        "net_ticktime": given.one("net_ticktime", positive_seconds),
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


def lets_in(options: argparse.Namespace, environment: Mapping[str, str]) -> bool:
    """Whether shells may be opened on the node from others."""
    return bool(_Given(options, environment).flag("allow_remsh"))


class _Given:
    """What the command line or the environment says, with where it said so."""

    def __init__(self, options: argparse.Namespace, environment: Mapping[str, str]) -> None:
        self.options = options
        self.environment = environment

    def text(self, name: str) -> tuple[Any, str] | None:
        """The value of an option, or else of its variable, and what to call its source. Empty is as good as absent."""
        option = getattr(self.options, name, None)
        if option is not None:
            return option, "--" + name.replace("_", "-")
        variable = "ERLMESH_" + name.upper()
        value = self.environment.get(variable, "").strip()
        return (value, variable) if value else None

    def one(self, name: str, read: Callable[[str, str], T]) -> T | None:
        """``read(text, source)``, which raises NodeStartError for what it does not understand."""
        found = self.text(name)
        return None if found is None else read(*found)

    def several(self, name: str) -> list[str] | None:
        """A list: an option that was repeated, or a variable with commas."""
        found = self.text(name)
        if found is None:
            return None
        texts: Sequence[str] = found[0] if isinstance(found[0], list) else [found[0]]
        return [item for text in texts for item in re.split(r"[,\s]+", text) if item]

    def flag(self, name: str) -> bool | None:
        found = self.text(name)
        if found is None or isinstance(found[0], bool):
            return None if found is None else bool(found[0])
        text, source = found
        if text.lower() not in _YES + _NO:
            raise NodeStartError(f"{source} is {text!r}: it must be true or false")
        return text.lower() in _YES


def _mapper_and_resolver(given: _Given) -> tuple[PortMapper | None, Resolver | None]:
    fixed, epmd = given.one("erl_epmd_port", _port), given.flag("epmd")
    if fixed is not None and epmd:
        raise NodeStartError("--erl-epmd-port means that there is no EPMD: leave --epmd away")
    mapper: PortMapper | None = FixedPort(fixed) if fixed is not None else NoEpmd() if epmd is False else None
    table = given.several("resolve")
    if table is None:
        return mapper, None
    source = given.text("resolve") or ("", "--resolve")
    return mapper, StaticResolver(dict(_entry(entry, source[1]) for entry in table), mapper or Epmd())


def _entry(text: str, source: str) -> tuple[str, tuple[str, int]]:
    match = re.fullmatch(r"([^=@]+@[^=@]+)=(?:\[([^\]]+)\]|([^:\[\]]+)):(\d+)", text)
    if match is None:
        raise NodeStartError(f"{source} is {text!r}: it looks like plato@10.0.0.7=10.1.1.1:9100")
    return match[1], (match[2] or match[3], _port(match[4], source))


def _ports(given: _Given) -> range | None:
    if given.options.port is not None:
        first, _, last = given.options.port.partition("-")
        return _range(first, last or first, "--port")
    least, most = given.text("port_min"), given.text("port_max")
    if least is None and most is None:
        return None
    if least is None:
        raise NodeStartError("ERLMESH_PORT_MAX needs ERLMESH_PORT_MIN beside it")
    return _range(least[0], (most or least)[0], "ERLMESH_PORT_MIN" if most is None else "ERLMESH_PORT_MIN and _MAX")


def _range(first: str, last: str, source: str) -> range:
    low, high = _port(first, source), _port(last, source)
    if low > high:
        raise NodeStartError(f"{source} is {low}-{high}: the range is empty, the smaller number comes first")
    return range(low, high + 1)


def _port(text: str, source: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 65536:
        raise NodeStartError(f"{source} is {text!r}: a port is a number from 1 to 65535")
    return int(text)


def _cookies(given: _Given) -> dict[str, str] | None:
    found = given.text("cookies_file")
    if found is None:
        return None
    cookies = {}
    for number, line in enumerate(read_protected(Path(found[0]).expanduser()).splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or "@" not in words[0]:
            raise NodeStartError(f"line {number} of {found[0]} is not of the form  plato@10.0.0.7 COOKIE")
        cookies[words[0]] = words[1]
    return cookies
