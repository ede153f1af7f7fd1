"""Parse the sources of discovery: ``static:a@h,b@h``, ``dns:NAME``, ``srv:NAME``, ``file:PATH``, ``gossip:multicast``.

A source gives nodes (``plato@10.0.0.7``) or hosts. The EPMD of a host is asked for its nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

from erlmesh.discovery.gossip_settings import parse_gossip
from erlmesh.errors import NodeStartError
from erlmesh.records import record

__all__ = ["Host", "Source", "SourceKind", "parse_entries", "parse_sources"]


class SourceKind(Enum):
    """The kinds of sources."""

    STATIC = "static"
    DNS = "dns"
    SRV = "srv"
    FILE = "file"
    GOSSIP = "gossip"


@record(frozen=True)
class Source:
    """One source. ``value`` is a list, a DNS name, a path, or where gossip goes."""

    kind: SourceKind
    value: str

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.value}"


@record(frozen=True)
class Host:
    """A host to ask for its nodes. ``epmd_port`` None is the default port."""

    name: str
    epmd_port: int | None = None


def parse_sources(texts: Iterable[str]) -> list[Source]:
    """The sources in ``texts``; spaces separate several in one text. Raises NodeStartError."""
    return [_parse_source(item) for text in texts for item in text.split()]


def _parse_source(text: str) -> Source:
    kind, colon, value = text.partition(":")
    known = {each.value: each for each in SourceKind}
    if not colon or not value or kind not in known:
        raise NodeStartError(
            f"{text!r} is not a source of nodes: write static:a@host,b@host, dns:NAME, srv:NAME, file:PATH or "
            "gossip:multicast"
        )
    source = Source(known[kind], value)
    if source.kind is SourceKind.STATIC:
        parse_entries(value, str(source))
    if source.kind is SourceKind.GOSSIP:
        parse_gossip(value)
    return source


def parse_entries(text: str, source_name: str) -> list[str | Host]:
    """The nodes and hosts in a list. Commas, spaces and line ends separate them; ``#`` starts a comment.

    Raises NodeStartError.
    """
    found: list[str | Host] = []
    for line in text.splitlines():
        for word in re.split(r"[,\s]+", line.partition("#")[0]):
            if re.fullmatch(r"[A-Za-z0-9_-]+@[A-Za-z0-9_.:%-]+", word):
                found.append(word)
            elif re.fullmatch(r"[A-Za-z0-9_.:%-]+", word):
                found.append(Host(word))
            elif word:
                raise NodeStartError(f"{source_name}: {word!r} is neither a node (plato@10.0.0.7) nor a host")
    return found
