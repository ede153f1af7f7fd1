"""Look up names in the sources, and ask the EPMD of each host for its nodes. All I/O of discovery is here."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from erlmesh.discovery.gossip_settings import parse_gossip
from erlmesh.discovery.sources import Host, Source, SourceKind, parse_entries
from erlmesh.errors import ErlmeshError, NodeStartError
from erlmesh.net.epmd import registered_names
from erlmesh.net.event_log import event_log
from erlmesh.net.host_names import resolve_host
from erlmesh.net.lookup_threads import look_up
from erlmesh.proto.handshake import is_node_name
from erlmesh.terms.foreign_text import printable_sentence

__all__ = ["Lookup", "check_sources"]

log = event_log("erlmesh.discovery")

LOOKUP_TIMEOUT = 5.0
MAX_CONCURRENT_QUERIES = 32
"""Hosts that are asked at the same time."""
MAX_NAMES = 1000
"""Nodes of one host that are used. Its EPMD says the names, and each of them is called."""


def check_sources(sources: Iterable[Source]) -> None:
    """Raises NodeStartError if a source needs a package that is not installed."""
    sources = tuple(sources)
    if any(source.kind is SourceKind.SRV for source in sources) and importlib.util.find_spec("dns") is None:
        raise NodeStartError("srv: needs the package dnspython: install it with  pip install 'erlmesh[dns]'")
    has_secret = any(source.kind is SourceKind.GOSSIP and parse_gossip(source.value).secret for source in sources)
    if has_secret and importlib.util.find_spec("cryptography") is None:
        raise NodeStartError(
            "the secret of gossip: needs the package cryptography: install it with  pip install 'erlmesh[gossip]'"
        )


class Lookup:
    """Looks up nodes in ``sources``.

    ``node_basename`` is the part before the ``@`` of all nodes, if hosts have no EPMD. None asks the EPMD of each host.
    """

    def __init__(
        self, sources: Sequence[Source], *, epmd_port: int, node_basename: str | None = None, resolver: Any = None
    ) -> None:
        """``resolver`` is a resolver of dnspython for SRV records. None is the system's."""
        check_sources(sources)
        self.sources = tuple(sources)
        self._epmd_port = epmd_port
        self._node_basename = node_basename
        self._resolver = resolver
        self._last_logged: dict[str, str] = {}

    async def find_nodes(self) -> tuple[list[str], bool]:
        """The names of all nodes, and whether every source and every host could be asked."""
        results = await asyncio.gather(*(self._read_entries(source) for source in self.sources))
        found = [entry for result in results for entry in result or ()]
        names = [entry for entry in found if isinstance(entry, str)]
        hosts = list(dict.fromkeys(entry for entry in found if isinstance(entry, Host)))
        limit = asyncio.Semaphore(MAX_CONCURRENT_QUERIES)
        at_hosts = await asyncio.gather(*(self._names_at(host, limit) for host in hosts))
        names += [name for each in at_hosts for name in each or ()]
        return list(dict.fromkeys(names)), None not in results and None not in at_hosts

    async def _read_entries(self, source: Source) -> list[str | Host] | None:
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                found = await self._read_source(source)
        except TimeoutError:
            self._log_once(str(source), "no answer")
        except (OSError, ErlmeshError, UnicodeError) as fault:
            self._log_once(str(source), str(fault))
        else:
            self._last_logged.pop(str(source), None)
            return found
        return None

    async def _read_source(self, source: Source) -> list[str | Host]:
        match source.kind:
            case SourceKind.STATIC:
                return parse_entries(source.value, str(source))
            case SourceKind.FILE:
                read = partial(Path(source.value).read_text, encoding="utf-8")
                text = await look_up(f"file {source.value}", read)  # the file system may be a slow network
                return parse_entries(text, str(source))
            case SourceKind.DNS:
                return [Host(address) for address in await resolve_host(source.value)]
            case SourceKind.SRV:
                return await self._read_srv(source.value)
            case SourceKind.GOSSIP:
                return []  # Other nodes send their names: see gossip.py.

    async def _read_srv(self, name: str) -> list[str | Host]:
        library, faults = importlib.import_module("dns.asyncresolver"), importlib.import_module("dns.exception")
        resolver = self._resolver or library.get_default_resolver()
        try:
            answer = await resolver.resolve(name, "SRV")
        except faults.DNSException as fault:
            raise OSError(f"{type(fault).__name__}: {fault}") from None
        return [Host(str(record.target).rstrip("."), int(record.port)) for record in answer]

    async def _names_at(self, host: Host, limit: asyncio.Semaphore) -> list[str] | None:
        if self._node_basename is not None:
            return [f"{self._node_basename}@{host.name}"]
        port = host.epmd_port or self._epmd_port
        async with limit:
            try:
                names = await registered_names(host.name, port)
            except (OSError, ErlmeshError) as fault:  # TimeoutError is an OSError.
                self._log_once(
                    host.name, f"no EPMD answers on port {port} of that host: {fault or type(fault).__name__}"
                )
                return None
        full_names = [full for name in names if is_node_name(full := f"{name}@{host.name}")][:MAX_NAMES]
        if invalid := names.invalid + len(names) - len(full_names):
            self._log_once(host.name, f"{invalid} entries of its EPMD are not names of nodes, or too many: ignored")
        else:
            self._last_logged.pop(host.name, None)
        return full_names

    def _log_once(self, subject: str, reason: str) -> None:
        """Logs a reason that differs from the last one of the same subject."""
        if self._last_logged.get(subject) != reason:
            self._last_logged[subject] = reason
            log.info(
                "lookup_failed",
                "discovery: %s: %s",
                printable_sentence(subject),
                printable_sentence(reason),
                reason=reason,
            )
