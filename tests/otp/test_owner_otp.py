"""Elixir names the owner of a key as Python does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random

import pytest

from beam import NoSuchOtp
from elixir_tools import elixir_program, run_elixir
from erlmesh import etf
from erlmesh.core.sharding.rendezvous import Rendezvous
from erlmesh.terms import Atom, Pid
from skips import skip_or_fail

pytestmark = pytest.mark.timeout(120)

VECTORS = Path(__file__).parents[1] / "vectors/owners.json"


def vector_groups():
    for case in json.loads(VECTORS.read_text()):
        group = [Pid(Atom(node), number, serial, creation) for node, number, serial, creation in case["members"]]
        yield group, {bytes.fromhex(key): indices for key, indices in case["owners"].items()}


def random_groups(random, count=40):
    """Groups with several members on most nodes, and pids that Erlang orders by each of their fields."""
    for _ in range(count):
        names = [Atom(f"{random.choice('aböλ')}{number}@10.0.0.{number}") for number in range(random.randint(1, 6))]
        yield (
            [
                Pid(random.choice(names), random.randint(0, 5), random.randint(0, 2), random.randint(1, 9))
                for _ in range(random.randint(1, 12))
            ],
            [random.randbytes(random.randint(0, 20)) for _ in range(20)],
        )


def elixir_owners(groups, folder):
    try:
        elixir = elixir_program(25)
    except NoSuchOtp as error:
        skip_or_fail(str(error))
    source, target = folder / "groups.etf", folder / "owners.etf"
    source.write_bytes(etf.encode(groups))
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "ELIXIR_ERL_OPTIONS": "+fnu"}
    run_elixir([elixir, str(Path(__file__).parent / "owners.exs"), str(source), str(target)], environment, folder)
    return etf.decode(target.read_bytes())


def test_elixir_names_the_owners_of_the_vectors_and_of_random_groups(tmp_path):
    vectors, random = list(vector_groups()), list(random_groups(Random(1)))
    groups = [(group, list(owners)) for group, owners in vectors] + random

    theirs = elixir_owners(groups, tmp_path)

    for (group, owners), answers in zip(vectors, theirs[: len(vectors)], strict=True):
        expected = [group[indices[0]] if indices else Atom("nil") for indices in owners.values()]
        assert answers == expected
    for (group, keys), answers in zip(random, theirs[len(vectors) :], strict=True):
        assert answers == [Rendezvous(group).owner(key) for key in keys]
