"""Owners of shards in Python and in Elixir, in containers: each kind takes over from the other one."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

from containers import ROOT, Lab

from otp.polling import wait_until

PROGRAMS = """
import asyncio
from collections import Counter
from erlmesh.core.sharding.names import holders_group

async def owner(me):
    async with me.node.shards("feeds", shards=64) as shards:
        async for event in shards:
            if hasattr(event, "done"):
                event.done()

async def watcher(me):
    told = None
    while True:
        members = [me.node.pg.get_members(holders_group(b"feeds", shard)) for shard in range(64)]
        holders = sorted({pid.node.name.partition("@")[0] for each in members for pid in each})
        seen = (holders, dict(Counter(map(len, members))))
        if seen != told:
            print("seen:", seen, flush=True)
            told = seen
        await asyncio.sleep(0.01)
"""
START = """
spawn(fn ->
  Enum.find(Stream.repeatedly(fn -> Process.sleep(50); Node.list() end), &(length(&1) > 1))
  ShardOwner.start_link(name: "feeds", shards: 64, take: & &1, release: & &1)
  Process.sleep(:infinity)
end)
"""


def start_owners(lab: Lab, elixir_image: str, folder: Path) -> None:
    """Two owners in Python, one in Elixir, and a node that prints who holds shards."""
    (folder / "programs.py").write_text(PROGRAMS)
    shutil.copy(ROOT / "examples" / "cep" / "elixir" / "shard_owner.exs", folder)
    folder.chmod(0o755)
    common = ("--volume", f"{folder}:/programs:ro", "--network-alias", "nodes")
    environment = ("--env", "PYTHONPATH=/programs", "--env", "ERLMESH_DISCOVER=dns:nodes")
    for name, program in (("agora", "watcher"), ("socrates", "owner"), ("plato", "owner")):
        lab.node(name, *common, *environment, command=("start", "--app", f"programs:{program}"))
    lab.elixir_node("diotima", elixir_image, *common, command=("-r", "/programs/shard_owner.exs", "-e", START))


def test_python_and_elixir_owners_take_over_from_each_other(lab: Lab, elixir_image: str, tmp_path: Path) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    start_owners(lab, elixir_image, folder)

    def logs() -> str:
        return lab.logs(lab.container("agora"))

    def one_holder_each(*names: str) -> bool:
        seen = [line for line in logs().splitlines() if line.startswith("seen: ")]
        return bool(seen) and ast.literal_eval(seen[-1].removeprefix("seen: ")) == ([*names], {1: 64})

    wait_until(lambda: one_holder_each("diotima", "plato", "socrates"), 60, what="three owners", details=logs)

    lab.run("kill", lab.container("diotima"))
    wait_until(lambda: one_holder_each("plato", "socrates"), what="owners in Python", details=logs)
    lab.run("start", lab.container("diotima"))
    wait_until(lambda: one_holder_each("diotima", "plato", "socrates"), 60, what="diotima is back", details=logs)
    lab.run("kill", lab.container("plato"))
    wait_until(lambda: one_holder_each("diotima", "socrates"), what="an owner in Elixir", details=logs)
