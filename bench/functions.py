"""The functions that the measured Python node exposes. ``mesh_bench.erl`` has the same for a BEAM."""

from __future__ import annotations

import inspect

from erlmesh import expose

__all__ = ["expose_functions", "has_threads"]


async def by_coroutine(number: int) -> int:
    return number


def by_thread(number: int) -> int:
    return number


def by_loop(number: int) -> int:
    return number


def has_threads() -> bool:
    """True if a plain function runs in a thread, unless it is exposed with ``inline=True``."""
    return "inline" in inspect.signature(expose).parameters


def expose_functions() -> None:
    expose(by_coroutine, as_="mesh_bench")
    expose(by_thread, as_="mesh_bench")
    if has_threads():
        expose(by_loop, as_="mesh_bench", inline=True)
    else:
        expose(by_loop, as_="mesh_bench")
