"""Show the whole transcript: three nodes meet, share groups, lose one and get it back."""

from __future__ import annotations

import argparse

from erlmesh.demo import run as play

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh demo

Every node is a process of its own, and what you see is what its shell prints. With iex installed a real
Elixir node takes part. The exit code is 0 if every step was as it must be."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--without-elixir", action="store_true", help="leave out the part with iex")


def run(options: argparse.Namespace) -> int:
    return play(elixir=not options.without_elixir)
