"""python -m fuzz.leaks [--items 1000000]: the native part keeps nothing of terms and messages, also after errors.

Each round does the same work: it encodes and decodes terms, and writes and reads messages. Many of them are faulty, so
that the work ends half-way: a value inside is not a term, bytes are wrong, a stream ends inside a frame, a queue is
dropped. After each round the number of memory blocks and the reference counts must be what they were after the round
before. The memory of the process (RSS) must not grow either: it would show a leak of memory that Rust allocates.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
from pathlib import Path
from random import Random
from typing import NamedTuple

from erlmesh import native
from erlmesh.proto.control import Signal
from erlmesh.proto.flags import Flags
from fuzz import codec, wire

CASES = 40
SIGNALS = 60
"""Signals of a case."""
STREAMS = 6
"""Streams that are read in a case. All but one have faults."""
WARM_UP = 15
"""Rounds that fill the caches: of atoms, of pids, of prefixes. They grow less and less, up to their bounds."""
BLOCKS = 300
"""Blocks by which the number of blocks may differ: CPython's own caches and free lists."""
MEGABYTES = 24
"""Growth of the memory that is not a leak: fragmentation of the allocators."""


class Case(NamedTuple):
    """What one connection writes and reads."""

    flags: Flags
    signals: list[Signal]
    streams: list[list[bytes]]
    """Each stream is a list of pieces, as they arrive."""


class Memory(NamedTuple):
    """What must stay the same."""

    blocks: int
    references: tuple[int, ...]


def make_case(seed: int) -> Case:
    """Return the case with that seed."""
    random = Random(f"leaks-{seed}")
    generator, flags = wire.Generator(random), random.choice(wire.FLAGS)
    signals = [generator.signal() for _ in range(SIGNALS)]
    writer, _ = wire.wire_pair(native.module.Wire, flags)
    for signal in signals:
        wire.outcome(writer.write, signal)
    stream = writer.data_to_send()
    streams = [stream, *(wire.mutated(random, stream) for _ in range(STREAMS - 1))]
    return Case(flags, signals, [_cut(random, each) for each in streams])


def _cut(random: Random, stream: bytes) -> list[bytes]:
    """Cut a stream into pieces. Half of the streams end too early, so that a reader ends with half a frame."""
    end = len(stream) if random.random() < 0.5 else random.randrange(len(stream) + 1)
    cuts = sorted(random.randrange(end + 1) for _ in range(random.choice([0, 3, 20])))
    return [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, end], strict=True)]


def run_case(case: Case) -> int:
    """Write and read all of a case, and drop everything. Return the number of messages."""
    writer, reader = wire.wire_pair(native.module.Wire, case.flags)
    for number, signal in enumerate(case.signals):
        wire.outcome(writer.write, signal)
        if number % 20 == 0:
            writer.data_to_send()
        elif number % 27 == 0:
            writer.clear()
    count = len(case.signals)
    for pieces in case.streams:
        _, reader = wire.wire_pair(native.module.Wire, case.flags)
        signals: list[Signal] = []
        for piece in pieces:
            if wire.outcome(reader.receive_data, piece, signals) is not None:
                break
        count += len(signals) + 1
    return count


class LeakCheck:
    """Runs rounds of the same work and compares the memory after each."""

    def __init__(self) -> None:
        self._cases = [make_case(seed) for seed in range(CASES)]
        self._watched = [*codec.HEADER, *wire.NODES, *wire.ATOMS]
        self.items = 0
        """Terms and messages so far."""

    def round(self) -> None:
        """Do the work of one round."""
        for case in self._cases:
            self.items += run_case(case)
        for run in codec.LEAK_CASES.values():
            run()
            self.items += codec.TERMS

    def memory(self) -> Memory:
        """Return what is in use now."""
        gc.collect()
        return Memory(sys.getallocatedblocks(), tuple(map(sys.getrefcount, self._watched)))

    def run(self, items: int) -> list[str]:
        """Run rounds until ``items`` terms and messages are done. Return what has leaked, as texts."""
        for _ in range(WARM_UP):
            self.round()
        first, resident = self.memory(), resident_memory()
        self.items = 0
        while self.items < items:
            self.round()
        last, leaks = self.memory(), []
        if last.blocks - first.blocks > BLOCKS:
            leaks.append(f"{last.blocks - first.blocks} blocks of memory")
        for atom, before, after in zip(self._watched, first.references, last.references, strict=True):
            if after - before > 50:
                leaks.append(f"{after - before} references to {atom!r}")
        grown = (resident_memory() - resident) / 1e6
        if grown > MEGABYTES:
            leaks.append(f"{grown:.1f} MB of memory of the process")
        return leaks


def resident_memory() -> int:
    """Return the bytes of memory that this process uses now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=1_000_000, help="terms and messages (1,000,000)")
    options = parser.parse_args()
    if native.module is None:
        print(f"nothing to check: {native.description}", file=sys.stderr)
        return 1
    check = LeakCheck()
    before = resident_memory()
    leaks = check.run(options.items)
    print(f"{check.items} terms and messages; the memory of the process went from {before / 1e6:.1f} to "
          f"{resident_memory() / 1e6:.1f} MB")  # fmt: skip
    for leak in leaks:
        print(f"leaked: {leak}", file=sys.stderr)
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main())
