"""Run a demonstration: three nodes connect, share groups, lose one node and get it back."""

from __future__ import annotations

import argparse

from erlmesh.demo import run as run_local
from erlmesh.demo import run_in_containers
from erlmesh.demo.docker import IMAGE

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh demo
  erlmesh demo --docker
  erlmesh demo --map

Every node is a process of its own. The output is what its shell prints. If iex is installed, a real Elixir
node takes part. The exit status is 0 if every step gave the expected result."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--without-elixir", action="store_true", help="omit the part with iex")
    parser.add_argument(
        "--docker",
        action="store_true",
        help="use containers, which are paused, killed, disconnected and joined by others",
    )
    parser.add_argument(
        "--map",
        action="store_true",
        help="show the nodes in a browser too, and wait for Enter before each part; needs erlmesh[web]",
    )
    parser.add_argument(
        "--image", metavar="IMAGE", default=IMAGE, help=f"the image for --docker, else {IMAGE} (built if missing)"
    )


def run(options: argparse.Namespace) -> int:
    if options.docker:
        return run_in_containers(options.image, show_map=options.map)
    return run_local(elixir=not options.without_elixir, show_map=options.map)
