"""How long shards have no holder after ``kill -9``: three nodes, of which the one with the most shards is killed.

A BEAM runs ``examples/cep/elixir/shard_owner.exs``, if Elixir is installed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from beam import Beam
from bench.contenders import ROOT, Contender
from bench.harness import CLOCK_CORE, OTHER_CORE, BenchHarness, measuring
from bench.rows import Numbers
from polling import wait_until
from pynode import PyNode

__all__ = ["takeovers"]

SHARDS = 64
KILLS = 3
OWNER = ROOT / "examples/cep/elixir/shard_owner.exs"
HOLD = """
    code:add_pathz(Path), {ok, _} = application:ensure_all_started(elixir), io:setopts(standard_io, [list]),
    {ok, _} = pg:start(pg), 'Elixir.Code':compile_string(Source), Taken__ = ets:new(taken, [public, set]),
    'Elixir.GenServer':start('Elixir.ShardOwner', #{
        name => <<"bench">>, shards => 64,
        take => fun(S) -> ets:insert(Taken__, {S, erlang:system_time(microsecond)}) end,
        release => fun(S) -> ets:delete(Taken__, S) end
    })
"""


def takeovers(harness: BenchHarness, contender: Contender) -> Numbers:
    """Milliseconds from the kill until each of 64 shards is held again: the median of some kills."""
    if not _can_hold(contender):
        return {}
    with measuring("takeover", contender):
        times = [_takeover(harness, contender) for _ in range(harness.count(KILLS))]
    return {"takeover": median(times) * 1000}


def _can_hold(contender: Contender) -> bool:
    if contender.is_beam:
        return shutil.which("elixir") is not None
    return (contender.source / "erlmesh" / "sharding.py").is_file()


def _takeover(harness: BenchHarness, contender: Contender) -> float:
    nodes: list[Beam | PyNode] = []
    try:
        for core in (CLOCK_CORE, OTHER_CORE, OTHER_CORE):
            node = harness.start(contender, core)
            for other in nodes:
                node.ping(other.name)
            _hold(node)
            nodes.append(node)
        wait_until(lambda: _are_divided(nodes), 30)
        victim = max(nodes, key=_held)
        nodes.remove(victim)
        killed_at = time.time()
        victim.kill()
        harness.close(victim)
        wait_until(lambda: sum(map(_held, nodes)) == SHARDS, 30)
        return max(map(_taken_at, nodes)) - killed_at
    finally:
        harness.close(*nodes)


def _hold(node: Beam | PyNode) -> None:
    if isinstance(node, PyNode):
        node.eval("from bench import holding")
        node.eval("await holding.serve(node)")
        return
    elixir = Path(shutil.which("elixir") or "").resolve()
    path = elixir.parents[1] / "lib/elixir/ebin"
    node.eval(HOLD, Path=[*str(path).encode()], Source=OWNER.read_bytes())


def _are_divided(nodes: Sequence[Beam | PyNode]) -> bool:
    counts = [_held(node) for node in nodes]
    return all(counts) and sum(counts) == SHARDS


def _held(node: Beam | PyNode) -> int:
    source = "holding.held()" if isinstance(node, PyNode) else "ets:info(Taken__, size)"
    return int(node.eval(source))  # type: ignore[call-overload, arg-type, unused-ignore]


def _taken_at(node: Beam | PyNode) -> float:
    if isinstance(node, PyNode):
        return float(node.eval("holding.taken_at()"))
    microseconds = node.eval("lists:max([0 | [At || {_, At} <- ets:tab2list(Taken__)]])")
    return float(microseconds) / 1e6  # type: ignore[arg-type, unused-ignore]
