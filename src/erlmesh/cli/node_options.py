"""The options of commands with a node, and the environment variables beside them.

The options come from the fields of :class:`~erlmesh.runtime.config.NodeConfig` and of ``NodeSettings``. An option wins
over its variable. An empty variable counts as not set. An error names the option or the variable that it is about.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeVar

from erlmesh.discovery.lookup import check_sources
from erlmesh.discovery.sources import Source, SourceKind, parse_sources
from erlmesh.errors import NodeStartError
from erlmesh.net.addresses import HostInfo, own_address
from erlmesh.net.cookie_files import read_secret_file
from erlmesh.net.epmd import Epmd
from erlmesh.net.resolvers import FixedPort, NoEpmd, PortMapper, Resolver, StaticResolver
from erlmesh.net.tls_config import MINIMUM_VERSIONS, TlsConfig
from erlmesh.records import fields
from erlmesh.runtime.config import CommandOption, NodeConfig, options_of, parser_of
from erlmesh.runtime.option_parsers import parse_list, parse_port, parse_port_range, parse_switch

__all__ = [
    "AUTO",
    "LOOPBACK",
    "OptionValues",
    "add_options_of",
    "client_options",
    "default_host",
    "discovery_sources",
    "node_options",
    "unknown_variables",
    "variables_of",
]

T = TypeVar("T")

LOOPBACK: Final = "127.0.0.1"
AUTO: Final = "auto"

OTHER_VARIABLES: Final = ("ERLMESH_STATE", "ERLMESH_PURE", "ERLMESH_WORKERS")
"""Variables that are not an option's: ERLMESH_STATE is the folder of the sockets of ``erlmesh health``; ERLMESH_PURE=1
refuses the native part; ERLMESH_WORKERS is --workers of ``erlmesh start``."""

_SERVICE_LINK: Final = re.compile(r"ERLMESH_(SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_\w+)")
"""What Kubernetes sets in every pod if a service is called ``erlmesh``."""


def add_options_of(parser: argparse._ActionsContainer, *configs: type, clients: bool = False) -> None:
    """Adds the options of the fields of records; with ``clients`` only those for a node that asks another one."""
    for command_option in _options_of(*configs):
        if clients and not command_option.for_clients:
            continue
        keywords: dict[str, Any] = {"help": f"{command_option.help} [{', '.join(command_option.variables)}]"}
        if command_option.metavar is None:
            keywords |= {"action": argparse.BooleanOptionalAction, "default": None}
        elif command_option.repeated:
            keywords |= {"metavar": command_option.metavar, "action": "append"}
        else:
            keywords["metavar"] = command_option.metavar
        parser.add_argument(command_option.flag, **keywords)


def _options_of(*configs: type) -> list[CommandOption]:
    return [each for config in configs for options in options_of(config).values() for each in options]


def variables_of(*configs: type) -> frozenset[str]:
    """Every ``ERLMESH_*`` variable that has a meaning."""
    return frozenset(OTHER_VARIABLES).union(*(each.variables for each in _options_of(*configs)))


def unknown_variables(environment: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """A sentence for each ``ERLMESH_*`` variable that is not ``known``: it is probably misspelt."""
    sentences = []
    for name in sorted(environment):
        if name.startswith("ERLMESH_") and name not in known and not _SERVICE_LINK.fullmatch(name):
            near = get_close_matches(name, sorted(known), n=1)
            sentences.append(f"{name} has no meaning here" + (f": is {near[0]} meant?" if near else ""))
    return sentences


class OptionValues:
    """The values that the command line and the environment give, each with its source."""

    def __init__(self, arguments: argparse.Namespace, environment: Mapping[str, str]) -> None:
        self.arguments = arguments
        self.environment = environment

    def lookup(self, name: str) -> tuple[Any, str] | None:
        """The value of an option, or else of its variable, and the source to name in errors. None if not given."""
        value = getattr(self.arguments, name, None)
        if value is not None:
            return value, "--" + name.replace("_", "-")
        variable = "ERLMESH_" + name.upper()
        text = self.environment.get(variable, "").strip()
        return (text, variable) if text else None

    def parsed(self, name: str, parse: Callable[[Any, str], T]) -> T | None:
        """``parse(value, source)``, or None if not given. Raises NodeStartError."""
        found = self.lookup(name)
        return None if found is None else parse(*found)


def node_options(
    values: OptionValues, config: type[NodeConfig] = NodeConfig, *, clients: bool = False
) -> dict[str, Any]:
    """The given fields of ``config``, but for name and cookie. Raises NodeStartError.

    A field with a parser needs no code here. The others have a reader.
    """
    chosen = {}
    for name, options in options_of(config).items():
        parse = parser_of(config, name)
        if clients and not any(each.for_clients for each in options):
            continue
        if name in _READERS:
            chosen[name] = _READERS[name](values)
        elif parse is not None:
            chosen[name] = values.parsed(options[0].name, parse)
    return {name: value for name, value in chosen.items() if value is not None}


def client_options(values: OptionValues) -> dict[str, Any]:
    """The same for a node that only asks another one: it registers nowhere, and finds others as usual."""
    chosen = node_options(values, clients=True)
    resolver = chosen.get("resolver") or chosen.get("epmd") or Epmd()
    return {**chosen, "epmd": NoEpmd(), "resolver": resolver, "hidden_groups": False}


def default_host(values: OptionValues) -> str:
    """The host of names that are given without one. Raises NodeStartError, which lists the addresses to choose from.

    It is the loopback address, unless the user names another; ``auto`` finds the one that others reach this machine by.
    """
    found = values.lookup("host")
    if found is None:
        return LOOPBACK
    host, source = found
    if host == AUTO:
        names = [place.value for place in discovery_sources(values) if place.kind is SourceKind.DNS]
        return own_address(HostInfo.detect(discovery_names=names))
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]+", host):
        raise NodeStartError(f"{source} is {host!r}: it must be a host name, an address, or auto")
    return str(host)


def discovery_sources(values: OptionValues) -> list[Source]:
    """The sources of ``--discover``. Raises NodeStartError."""
    found = values.lookup("discover")
    if found is None:
        return []
    sources = parse_sources(found[0] if isinstance(found[0], list) else [found[0]])
    check_sources(sources)
    return sources


def _read_epmd(values: OptionValues) -> PortMapper | None:
    port, epmd = values.parsed("erl_epmd_port", parse_port), values.parsed("epmd", parse_switch)
    if port is not None and epmd:
        raise NodeStartError("--erl-epmd-port means that there is no EPMD: omit --epmd")
    return FixedPort(port) if port is not None else NoEpmd() if epmd is False else None


def _read_resolver(values: OptionValues) -> Resolver | None:
    found = values.lookup("resolve")
    if found is None:
        return None
    table = dict(_parse_resolve(entry, found[1]) for entry in parse_list(*found))
    return StaticResolver(table, _read_epmd(values) or Epmd())


def _parse_resolve(text: str, source: str) -> tuple[str, tuple[str, int]]:
    match = re.fullmatch(r"([^=@]+@[^=@]+)=(?:\[([^\]]+)\]|([^:\[\]]+)):(\d+)", text)
    if match is None:
        raise NodeStartError(f"{source} is {text!r}: it looks like plato@10.0.0.7=10.1.1.1:9100")
    return match[1], (match[2] or match[3], parse_port(match[4], source))


def _read_ports(values: OptionValues) -> range | None:
    ports = _read_port_range(values)
    if ports is not None and values.lookup("erl_epmd_port") is not None:
        raise NodeStartError("--erl-epmd-port is also the port to listen on: omit --port and ERLMESH_PORT_MIN")
    return ports


def _read_port_range(values: OptionValues) -> range | None:
    given = getattr(values.arguments, "port", None)
    if given is not None:
        first, _, last = given.partition("-")
        return parse_port_range(first, last or first, "--port")
    least, most = values.lookup("port_min"), values.lookup("port_max")
    if least is None and most is None:
        return None
    if least is None:
        raise NodeStartError("ERLMESH_PORT_MAX is set without ERLMESH_PORT_MIN: set both, or ERLMESH_PORT_MIN alone")
    source = "ERLMESH_PORT_MIN" if most is None else "ERLMESH_PORT_MIN and _MAX"
    return parse_port_range(least[0], (most or least)[0], source)


def _read_cookies(values: OptionValues) -> dict[str, str] | None:
    found = values.lookup("cookies_file")
    if found is None:
        return None
    cookies = {}
    for number, line in enumerate(read_secret_file(Path(found[0]).expanduser()).splitlines(), 1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        if len(fields) != 2 or "@" not in fields[0]:
            raise NodeStartError(f"line {number} of {found[0]} must have the form  plato@10.0.0.7 COOKIE")
        cookies[fields[0]] = fields[1]
    return cookies


def _read_tls(values: OptionValues) -> TlsConfig | None:
    given = {name: found for name in _tls_fields() if (found := values.lookup(f"tls_{name}")) is not None}
    if not given:
        return None
    if missing := [name for name in ("cert", "key", "ca") if name not in given]:
        (_, source), *_ = given.values()
        needed = " and ".join(f"--tls-{name} or ERLMESH_TLS_{name.upper()}" for name in missing)
        raise NodeStartError(f"{source} is given: TLS also needs {needed}")
    return TlsConfig(**{name: _TLS_PARSERS.get(name, _parse_path)(*found) for name, found in given.items()})


def _tls_fields() -> list[str]:
    return [each.name for each in fields(TlsConfig)]


def _parse_path(text: str, _source: str) -> str:
    return str(Path(text).expanduser())


def _parse_version(text: str, source: str) -> str:
    if text not in MINIMUM_VERSIONS:
        raise NodeStartError(f"{source} is {text!r}: it must be 1.2 or 1.3")
    return text


_TLS_PARSERS: Final[dict[str, Callable[[Any, str], Any]]] = {
    "minimum_version": _parse_version,
    "verify_host": parse_switch,
    "verify_caller_host": parse_switch,
}
_READERS: Final[dict[str, Callable[[OptionValues], Any]]] = {
    "cookies": _read_cookies,
    "ports": _read_ports,
    "epmd": _read_epmd,
    "resolver": _read_resolver,
    "tls": _read_tls,
}
"""Fields that are read from several options, or from a file. Name and cookie are read by erlmesh.cli.settings."""
