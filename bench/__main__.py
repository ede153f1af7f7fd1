"""``python -m bench``: the contenders take turns in rounds; then medians and ratios. Nothing passes or fails."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench.harness import CONTENDERS, ROOT, BenchHarness
from bench.measures import MEASURES, Numbers
from bench.report import table, write_json
from cluster import running_cluster


def show(progress: str) -> None:
    """Show the current measurement on a terminal, in one line that is overwritten."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{progress:60}\r")
        sys.stderr.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure erlmesh and the BEAM in turns.")
    parser.add_argument("--rounds", type=int, default=3, help="how often to repeat all measurements (3)")
    parser.add_argument("--only", choices=[measure.__name__ for measure in MEASURES], help="one family of measures")
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "latest.json", help="the file for the numbers")
    options = parser.parse_args()
    chosen = [measure for measure in MEASURES if options.only in (None, measure.__name__)]
    if (os.cpu_count() or 1) < 2:
        print("bench: needs two cores, one for the clock node and one for the measured node", file=sys.stderr)
        return 1

    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the measured package is compiled, as an installed one is
    started = time.monotonic()
    rounds: dict[str, list[Numbers]] = {contender: [] for contender in CONTENDERS}
    with tempfile.TemporaryDirectory() as scratch, running_cluster(Path(scratch)) as cluster:
        harness = BenchHarness(cluster, Path(scratch))
        for round_number in range(options.rounds):
            turn = CONTENDERS if round_number % 2 == 0 else CONTENDERS[::-1]
            numbers: dict[str, Numbers] = {contender: {} for contender in CONTENDERS}
            for measure in chosen:
                for contender in turn:
                    show(f"round {round_number + 1} of {options.rounds}: {measure.__name__}, {contender}")
                    numbers[contender] |= measure(harness, contender)
            for contender in CONTENDERS:
                rounds[contender].append(numbers[contender])
        otp = harness.pairs["BEAM", "one core"].clock.text("erlang:system_info(otp_release)").strip('"')
    show("")
    print(table(rounds))
    seconds = time.monotonic() - started
    print(f"\n{options.rounds} rounds in {seconds:.0f} s; medians; the ratio is erlmesh over BEAM (OTP {otp})")
    write_json(options.json, rounds, otp)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
