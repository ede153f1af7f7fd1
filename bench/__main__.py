"""``python -m bench``: the contenders take turns in rounds; then medians, ratios to the BEAM and verdicts.

Exit status 0: the native build meets every line, or was not measured. 1: it misses a line. 2: the arguments are wrong,
or a measurement failed. 130 and 143: Ctrl-C and SIGTERM; what was measured before is printed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench.chart import write_chart
from bench.contenders import ROOT, Contender, available, default_contenders, parse_contenders
from bench.harness import BenchHarness, MeasureFailed
from bench.machine import describe_machine
from bench.measures import MEASURES
from bench.page import BEGIN, END, has_section, update_page
from bench.report import Rounds, spread_table, summary, table, write_json
from cluster import running_cluster

NAMES = [measure.__name__ for measure in MEASURES]
QUICK_SCALE = 0.2


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure erlmesh and the BEAM in turns.")
    parser.add_argument(
        "--contenders",
        metavar="NAMES",
        help="beam, beam-quiet (no busy waiting), pure, pure-uvloop, native, native-uvloop, or pure@FOLDER for another "
        "checkout, separated by commas; else all that are installed",
    )
    parser.add_argument("--only", metavar="FAMILIES", help=f"some families of measures, by commas: {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, help="how often to repeat all measures (3; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="one round with a fifth of the messages")
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="start no round that would end later than this (10)"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the numbers of messages (1.0)")
    parser.add_argument("--judge", metavar="NAME", help="the contender that must meet the lines (the first native one)")
    parser.add_argument("--spread", action="store_true", help="also print min, max and the CPU time of each operation")
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "latest.json", help="the file for the numbers")
    parser.add_argument("--chart", type=Path, help="write an SVG chart to this file")
    parser.add_argument("--page", type=Path, help="write the table into this Markdown page, between its two comments")
    options = parser.parse_args(arguments)
    try:
        options.contenders = parse_contenders(options.contenders) if options.contenders else default_contenders()
    except ValueError as error:
        parser.error(str(error))
    for contender in options.contenders:
        if not available(contender):
            parser.error(f"{contender.name}: this Python has no {contender.event_loop} or no native module")
    chosen = options.only.split(",") if options.only else NAMES
    for name in chosen:
        if name not in NAMES:
            parser.error(f"{name!r} is not a family of measures: it is one of {', '.join(NAMES)}")
    if options.page and not has_section(options.page):
        parser.error(f"{options.page} has no section for the table: {BEGIN} and {END}")
    options.measures = [measure for measure in MEASURES if measure.__name__ in chosen]
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.scale *= QUICK_SCALE if options.quick else 1.0
    natives = [contender.name for contender in options.contenders if contender.build == "native"]
    options.judge = options.judge or next(iter(natives), None)
    if options.judge is not None and options.judge not in [contender.name for contender in options.contenders]:
        parser.error(f"--judge {options.judge}: it is not one of the contenders")
    return options


def main() -> int:
    options = parse_arguments()
    if (os.cpu_count() or 1) < 2:
        print("bench: needs two cores, one for the clock node and one for the measured node", file=sys.stderr)
        return 2
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the measured package is compiled, as an installed one is
    started = time.monotonic()
    rounds: Rounds = {contender.name: [] for contender in options.contenders}
    failures: list[str] = []
    interrupted = 0
    with tempfile.TemporaryDirectory() as scratch, running_cluster(Path(scratch)) as cluster:
        harness = BenchHarness(cluster, Path(scratch), scale=options.scale)
        machine = {**describe_machine(options.contenders, harness.otp_release()), "scale": options.scale}
        try:
            for number in range(options.rounds):
                if number and (time.monotonic() - started) * (number + 1) / number > options.minutes * 60:
                    break
                run_round(harness, options, number, rounds, failures)
        except KeyboardInterrupt:
            interrupted = 130
        except SystemExit as stopped:  # SIGTERM
            interrupted = int(stopped.code or 1)
    show("")
    report(options, rounds, machine, failures, time.monotonic() - started)
    if interrupted:
        print("bench: interrupted; the figures are those that were measured before", file=sys.stderr)
        return interrupted
    if failures:
        return 2
    return 1 if options.judge and summary(rounds, options.judge)[0] else 0


def run_round(
    harness: BenchHarness, options: argparse.Namespace, number: int, rounds: Rounds, failures: list[str]
) -> None:
    """Measure each family on each contender. The order of the contenders is reversed in every second round."""
    turn: list[Contender] = options.contenders if number % 2 == 0 else options.contenders[::-1]
    for contender in turn:
        rounds[contender.name].append({})
    for measure in options.measures:
        for contender in turn:
            show(f"round {number + 1} of {options.rounds}: {measure.__name__}, {contender.name}")
            try:
                rounds[contender.name][-1] |= measure(harness, contender)
            except MeasureFailed as failure:
                show("")
                print(f"bench: failed: {failure}", file=sys.stderr)
                failures.append(str(failure).partition("\n")[0])
                harness.drop_pairs(contender)
    if not sys.stderr.isatty():
        print(f"bench: round {number + 1} of {options.rounds} is measured", file=sys.stderr)


def report(
    options: argparse.Namespace, rounds: Rounds, machine: dict[str, object], failures: list[str], seconds: float
) -> None:
    print(table(rounds, options.judge))
    if options.spread:
        print("\n" + spread_table(rounds))
    count = max(map(len, rounds.values()))
    print(f"\n{count} round{'s' if count > 1 else ''} in {seconds:.0f} s. The numbers are medians.")
    print(f"A ratio is the contender over the BEAM of this run (OTP {machine['otp']}).")
    print("CPU is the ratio of the processor time of one operation on the measured node.")
    if options.judge:
        missed, lines = summary(rounds, options.judge)
        print(f"\n{options.judge} meets {lines - len(missed)} of {lines} lines." + (" It misses:" if missed else ""))
        for sentence in missed:
            print(f"  {sentence}")
    for failure in failures:
        print(f"failed: {failure}")
    write_json(options.json, rounds, machine, failures)
    if options.chart:
        write_chart(options.chart, rounds, machine)
    if options.page:
        update_page(options.page, rounds, machine)


def show(progress: str) -> None:
    """Show the current measurement on a terminal, in one line that is overwritten."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{progress:72}\r")
        sys.stderr.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
