"""Show the cluster in a web browser: nodes, connections, groups, global names, shards, and what has changed.

The command connects to NODE as a hidden node with a random name, and then to all nodes that it learns of. The cluster
does not count it as a member: it joins no group, and no node reports its coming and going. With FILE, it opens a
recording, and needs no cluster. It needs the package h11: pip install 'erlmesh[web]'.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from erlmesh.cli.health import running_nodes
from erlmesh.cli.hidden_client import connect_failure
from erlmesh.cli.map_options import add_map_options, map_settings
from erlmesh.cli.output import print_error
from erlmesh.cli.settings import add_node_options, client_config, complete_name
from erlmesh.cli.shutdown import run_until_signal
from erlmesh.errors import NodeStartError
from erlmesh.node import Node
from erlmesh.records import fields
from erlmesh.runtime.option_parsers import parse_endpoint

if TYPE_CHECKING:
    from erlmesh.runtime.config import NodeConfig
    from erlmesh.web.cluster_map import ClusterMap, MapSettings

__all__ = ["DEFAULT_PORT", "EXAMPLE", "add_options", "connect_to_all", "node_that_looks", "run"]

EXAMPLE = """\
example:
  erlmesh map plato@127.0.0.1
  the map of the cluster is at http://127.0.0.1:4380/ (Ctrl-C ends it)

  erlmesh map                                   all nodes that run here, as `erlmesh health` finds them
  erlmesh map plato --listen 0.0.0.0:4380       other machines may look, with the token in the printed address
  erlmesh map plato --record cluster.jsonl      record what happens, and open it later:
  erlmesh map cluster.jsonl"""

T = TypeVar("T")

DEFAULT_PORT: Final = 4380
HEALTH_TIMEOUT: Final = 1.0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "where", metavar="NODE|FILE", nargs="*", help="a node of the cluster, or several; or a recording to open"
    )
    parser.add_argument(
        "--listen",
        metavar="[HOST:]PORT",
        help=f"where the page is, else 127.0.0.1:{DEFAULT_PORT}, or a free port if that is taken",
    )
    add_map_options(parser)
    add_node_options(parser, client=True)


def run(options: argparse.Namespace) -> int:
    settings = map_settings(options, parse_endpoint(options.listen or str(DEFAULT_PORT), "--listen"))
    found = [Path(text) for text in options.where if _is_file(text)]
    if found:
        if len(options.where) > 1 or settings.record is not None or settings.control:
            raise ValueError("a recording is opened alone: omit other nodes and files, --record and --map-control")
        return run_until_signal(lambda stop: _show_recording(stop, found[0], settings, options.listen is None))
    config, peers = node_that_looks(options)
    return run_until_signal(lambda stop: _show_cluster(stop, config, peers, settings, options.listen is None))


def _is_file(text: str) -> bool:
    return "@" not in text and (os.sep in text or text.endswith((".jsonl", ".1", ".json")) or Path(text).is_file())


def node_that_looks(options: argparse.Namespace) -> tuple[NodeConfig, list[str]]:
    """Return the hidden node that looks, and the nodes that it connects to first."""
    names = options.where or [name for name, _ in running_nodes(None, HEALTH_TIMEOUT)]
    if not names:
        raise ValueError("no node runs here: name a node of the cluster, such as plato@127.0.0.1")
    config, first = client_config(options, names[0])
    host = first.partition("@")[2]
    # With the groups it hears of changes on BEAMs at once. It is no member of any group.
    return _changed(config, hidden_groups=True), [first, *(complete_name(name, host) for name in names[1:])]


def _changed(settings: T, **values: Any) -> T:
    """Return a record with other values in some fields."""
    kept = {each.name: getattr(settings, each.name) for each in fields(type(settings))}
    return type(settings)(**{**kept, **values})


async def _show_cluster(
    stop: asyncio.Event, config: NodeConfig, peers: list[str], settings: MapSettings, any_port: bool
) -> int:
    async with Node.from_config(config) as node:
        page = await _started(node, settings, any_port=any_port)
        try:
            print(f"the map of the cluster is at {page.url} (Ctrl-C ends it)", flush=True)
            connecting = asyncio.ensure_future(connect_to_all(node, peers))
            await stop.wait()
            connecting.cancel()
        finally:
            await page.close()
    return 0


async def connect_to_all(node: Node, peers: list[str], tell: Callable[[str], object] = print_error) -> None:
    """Connect to each of ``peers``. ``tell`` gets the reason if one cannot be reached; it is dialled again."""
    for peer in peers:
        if not await node.connect(peer):
            tell(f"cannot connect yet: {connect_failure(node, peer)}")
            node.internals.keep_connecting(peer)


async def _started(node: Node, settings: MapSettings, *, any_port: bool) -> ClusterMap:
    """Start the map. With ``any_port`` another port is as good."""
    page = node._make_map(settings)
    try:
        await page.start()
    except NodeStartError:
        if not any_port:
            raise
        page = node._make_map(_changed(settings, port=0))
        await page.start()
    return page


async def _show_recording(stop: asyncio.Event, path: Path, settings: MapSettings, any_port: bool) -> int:
    from erlmesh.web.cluster_map import Page  # noqa: PLC0415
    from erlmesh.web.recording import Recording  # noqa: PLC0415

    recording = Recording(path)
    page = Page(recording, settings, None, "")
    try:
        await page.start()
    except NodeStartError:
        if not any_port:
            raise
        page = Page(recording, _changed(settings, port=0), None, "")
        await page.start()
    try:
        print(f"the recording {path} is at {page.url} (Ctrl-C ends it)", flush=True)
        await stop.wait()
    finally:
        await page.close()
    return 0
