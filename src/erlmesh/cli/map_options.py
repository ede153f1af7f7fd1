"""The options of a map, of ``erlmesh map`` and of ``erlmesh start --map``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from erlmesh.cli.node_options import OptionValues
from erlmesh.cli.settings import NodeSettings
from erlmesh.net.cookie_files import read_secret_file
from erlmesh.runtime.option_parsers import parse_switch, parse_text

if TYPE_CHECKING:
    from erlmesh.web.cluster_map import MapSettings

__all__ = ["add_map_options", "map_settings", "settings_of_map"]


def add_map_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``erlmesh map`` that ``erlmesh start`` has, too."""
    parser.add_argument(
        "--map-token-file",
        metavar="FILE",
        help="the token that viewers need, at least 16 characters; without it, one is made and printed if it is needed "
        "[ERLMESH_MAP_TOKEN_FILE]",
    )
    parser.add_argument(
        "--map-control",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="give the page buttons: ping a node, disconnect two nodes, end a process [ERLMESH_MAP_CONTROL]",
    )
    parser.add_argument("--record", metavar="FILE", help="record what the page shows, to open it later")


def map_settings(options: argparse.Namespace, address: tuple[str, int]) -> MapSettings:
    """Return the settings of ``erlmesh map``. Raises NodeStartError."""
    values = OptionValues(options, os.environ)
    return _settings(
        address,
        values.parsed("map_token_file", parse_text),
        control=bool(values.parsed("map_control", parse_switch)),
        record=options.record,
    )


def settings_of_map(settings: NodeSettings, address: tuple[str, int]) -> MapSettings:
    """Return the settings of the map of a node that keeps running. Raises NodeStartError."""
    return _settings(address, settings.map_token_file, control=settings.map_control, record=settings.map_record)


def _settings(address: tuple[str, int], token_file: str | None, *, control: bool, record: str | None) -> MapSettings:
    from erlmesh.web.cluster_map import MapSettings  # noqa: PLC0415 - most nodes have no map

    token = None
    if token_file is not None:
        token = read_secret_file(Path(token_file).expanduser(), "token").strip()
    return MapSettings(
        host=address[0],
        port=address[1],
        token=token,
        control=control,
        record=None if record is None else Path(record).expanduser(),
    )
