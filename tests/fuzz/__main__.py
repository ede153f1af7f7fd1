"""python -m fuzz [--seconds 10] [--seed N]: compare the builds on random input. Each case has a seed of its own."""

from __future__ import annotations

import argparse
import gc
import random
import resource
import sys
import time
from pathlib import Path

from erlmesh import native
from fuzz import codec, wire

KINDS = {"codec": codec.run_case, "wire": wire.run_case}


def resident_memory():
    """Return the bytes of memory that this process uses now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, help="start at this seed; without it, at a random one")
    parser.add_argument("--kind", choices=KINDS, help="only this kind of input")
    parser.add_argument("--memory-may-grow", action="store_true", help="do not fail if memory grows")
    options = parser.parse_args()
    if native.module is None:
        print(f"nothing to compare: {native.description}", file=sys.stderr)
        return 1
    seed = random.SystemRandom().randrange(10**9) if options.seed is None else options.seed
    kinds = [options.kind] if options.kind else list(KINDS)
    first, ends, memory = seed, time.monotonic() + options.seconds, 0
    while time.monotonic() < ends or seed == first:
        for kind in kinds:
            try:
                KINDS[kind](seed)
            except BaseException:
                print(f"{kind}: seed {seed} failed. Repeat it with  make fuzz SEED={seed} SECONDS=0", file=sys.stderr)
                raise
        seed += 1
        if seed - first == 2000:
            gc.collect()
            memory = resident_memory()
    gc.collect()
    grown = resident_memory() - memory if memory else 0
    growth = f"; memory grew by {grown / 1e6:.1f} MB after the first 2000" if memory else ""
    print(f"{seed - first} cases from seed {first}: no difference{growth}")
    if grown > 50e6 and not options.memory_may_grow:
        print("memory grows: something leaks", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
