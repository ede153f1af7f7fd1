"""The options of a map, of ``erlmesh map`` and of ``erlmesh start --map``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from erlmesh.net.cookie_files import read_secret_file
from erlmesh.web.addresses import parse_address

if TYPE_CHECKING:
    from erlmesh.web.cluster_map import MapSettings

__all__ = ["add_map_options", "map_settings"]


def add_map_options(parser: argparse.ArgumentParser, *, record: str) -> None:
    """Add the options that both commands have. ``record`` is the name of the option for a recording."""
    parser.add_argument(
        "--map-token-file",
        metavar="FILE",
        help="the token that viewers of the map need; without it, one is made and printed if others can reach the page",
    )
    parser.add_argument(
        "--map-control",
        action="store_true",
        help="give the map buttons: ping a node, disconnect two nodes, end a process",
    )
    parser.add_argument(record, metavar="FILE", help="record what the map shows; `erlmesh map FILE` opens it")


def map_settings(options: argparse.Namespace, address: str, source: str, record: str | None) -> MapSettings:
    """Return the settings of a map at ``address``, which the option ``source`` gives. Raises NodeStartError."""
    from erlmesh.web.cluster_map import MapSettings  # noqa: PLC0415 - most nodes have no map

    host, port = parse_address(address, source)
    token = None
    if options.map_token_file is not None:
        token = read_secret_file(Path(options.map_token_file).expanduser()).strip()
    return MapSettings(
        host=host,
        port=port,
        token=token,
        control=options.map_control,
        record=None if record is None else Path(record).expanduser(),
    )
