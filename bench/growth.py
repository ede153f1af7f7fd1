"""``python -m bench.growth``: how the cost of process groups and of the mesh grows. Nothing passes or fails.

All times are CPU times of this process: of groups the least of several rounds, of meshes one run. The nodes are
simulated, see :mod:`bench.growth_mesh`.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import platform
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.growth_mesh import measure_joiner, measure_mesh
from bench.growth_sparse import measure_hidden, measure_separate
from erlmesh import native
from erlmesh.services.pg.server import Pg
from erlmesh.services.pg.state import ScopeState
from erlmesh.terms import Atom, Pid
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

ROOT: Final = Path(__file__).parents[1]
ROOM: Final = (Atom("room"), 1)
HERE, THERE = Atom("here@h"), Atom("there@h")
SERVER, PEER = Pid(HERE, 1, 0, 1), Pid(THERE, 1, 0, 1)
FIRST_MEMBER: Final = 1000
ROUNDS: Final = 3
REPEATS: Final = 1000
WATCHERS: Final = 1000

Row = dict[str, Any]


def cpu_microseconds(action: Callable[[], object], repeats: int = 1, rounds: int = ROUNDS) -> float:
    """CPU time of one call of ``action`` in microseconds: the least of ``rounds`` means over ``repeats`` calls."""
    best = float("inf")
    for _ in range(rounds):
        gc.collect()
        start = time.process_time()
        for _ in range(repeats):
            action()
        best = min(best, time.process_time() - start)
    return best / repeats * 1e6


# Groups


def members(number: int) -> list[Pid]:
    return [Pid(THERE, FIRST_MEMBER + index, 0, 1) for index in range(number)]


def state_with(groups: int, each: int) -> tuple[ScopeState, list[tuple[Any, list[Pid]]]]:
    """A scope that knows one other server, and a sync of that server."""
    state = ScopeState(SERVER)
    state.handle_discover(PEER)
    return state, [((Atom("room"), number), members(each)) for number in range(1, groups + 1)]


def measure_group_sizes(sizes: Iterable[int]) -> list[Row]:
    """The cost of one operation on one group, by its number of members."""
    rows = []
    for size in sizes:
        state, sync = state_with(1, size)
        state.handle_sync(PEER, sync)
        newcomer = [Pid(THERE, 1, 0, 1)]
        state.handle_join(PEER, ROOM, newcomer)

        def join_and_leave(state: ScopeState = state, newcomer: list[Pid] = newcomer) -> None:
            state.handle_join(PEER, ROOM, newcomer)
            state.handle_leave(PEER, newcomer, [ROOM])

        def change_and_list(state: ScopeState = state, change: Callable[[], None] = join_and_leave) -> None:
            change()
            state.members(ROOM)

        rows.append(
            {
                "members": size,
                "join and leave": cpu_microseconds(join_and_leave, REPEATS),
                "members again": cpu_microseconds(partial(state.members, ROOM), REPEATS),
                "members after a change": cpu_microseconds(change_and_list, 10),
                "copy of the list": cpu_microseconds(lambda state=state: list(state.members(ROOM)), 10),
                "statistics": cpu_microseconds(state.statistics, REPEATS),
            }
        )
    return rows


def measure_contact(shapes: Iterable[tuple[int, int]]) -> list[Row]:
    """First contact with a node, and its loss, by the number of groups and of members of each group."""
    rows = []
    for groups, each in shapes:
        learnt, lost = [], []
        _, sync = state_with(groups, each)
        for _ in range(ROUNDS):
            state, _ = state_with(0, 0)
            learnt.append(cpu_microseconds(partial(state.handle_sync, PEER, sync), rounds=1))
            lost.append(cpu_microseconds(partial(state.handle_down, PEER, Atom("noconnection")), rounds=1))
        rows.append({"groups": groups, "members of each": each, "first contact": min(learnt), "loss": min(lost)})
    return rows


async def measure_watchers() -> list[Row]:
    """A change of a group with many watches, with many watches of other groups, and a pick, on one simulated node."""
    rows = []
    for label, group_of in (("same group", lambda _: ROOM), ("other groups", lambda number: (Atom("other"), number))):
        async with Cluster(seed=1) as cluster:
            [node] = await cluster.start("a")
            pg: Pg = node.pg
            process = node.spawn(lambda me: me.receive())
            watches = [pg.watch(group_of(number)) for number in range(WATCHERS)]

            def change(pg: Pg = pg, process: Pid = process) -> None:
                pg.join(ROOM, process)
                pg.leave(ROOM, process)

            cost = cpu_microseconds(change, 10)
            pg.join(ROOM, process)
            pick = cpu_microseconds(partial(pg.pick, ROOM, "random"), REPEATS)
            for watch in watches:
                watch.close()
            rows.append({"watches": WATCHERS, "of": label, "join and leave": cost, "pick": pick})
    return rows


# The report


def table(rows: list[Row]) -> str:
    """The rows as a table in Markdown. Numbers with a fraction are microseconds, or signals."""
    flat = [
        {
            f"{key}, {part}" if part else key: number
            for key, value in row.items()
            for part, number in (value.items() if isinstance(value, dict) else [("", value)])
        }
        for row in rows
    ]
    lines = [list(flat[0]), ["--:"] * len(flat[0])]
    lines += [[f"{cell:,.2f}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else cell
               for cell in row.values()] for row in flat]  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__.split("\n")[0])
    parser.add_argument("--nodes", type=int, nargs="*", default=[10, 20, 40], help="sizes of meshes of complete nodes")
    parser.add_argument(
        "--join", type=int, nargs="*", default=[10, 40, 160, 1000], help="sizes of meshes that one node joins"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "growth.json", help="the file for the numbers")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # the losses of connections are part of the measurement
    report = {
        "size of a group": measure_group_sizes([1_000, 10_000, 100_000]),
        "first contact and loss": measure_contact([(1, 100_000), (1_000, 100), (10_000, 10), (100_000, 1)]),
        "watches": run(measure_watchers),
        "mesh of complete nodes, per node": [run(partial(measure_mesh, size)) for size in options.nodes],
        "one node that joins a mesh": [run(partial(measure_joiner, size)) for size in options.join],
        "not one mesh, per node": [run(partial(measure_hidden, 10, 150)), run(partial(measure_separate, 8, 20))],
    }
    print(f"Python {platform.python_version()}, {native.description}; times are CPU microseconds")
    for title, rows in report.items():
        print(f"\n{title}\n\n{table(rows)}")
    options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
