"""python -m soak [--minutes 5]: load and faults on a mesh of Python nodes and BEAMs. Prints a report.

The exit status is 1 if a watched node uses more at the end than after the first third, except for a small margin.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "otp"))

from cluster import running_cluster
from soak import report
from soak.mesh import Mesh

PHASES = 3
"""The first phase fills caches and pools. The others must not add anything."""


def run_phase(mesh: Mesh, seconds: float) -> None:
    """Let faults happen for some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        mesh.fault()
        mesh.check_running()
        time.sleep(random.uniform(0.1, 1.0))
        print(
            f"\r{max(0, end - time.monotonic()):5.0f} s left; {sum(mesh.faults.values())} faults ", end="", flush=True
        )
    print()


def soak(seconds: float, seed: int, otps: tuple[int, ...]) -> int:
    """Run all phases. Return the exit status."""
    with tempfile.TemporaryDirectory() as home, running_cluster(Path(home)) as cluster:
        mesh = Mesh(cluster, seed, otps=otps)
        measured, details = [], []
        for phase in range(PHASES):
            if phase:
                mesh.start_work(seed + 100 * phase)
            run_phase(mesh, seconds / PHASES)
            done = mesh.stop_work()
            measured.append(report.settle(mesh.measure))
            details.append(mesh.details())
        print(report.table(measured, done, mesh.faults))
        problems = report.problems(measured[0], measured[-1])
        for problem in problems:
            print(problem, file=sys.stderr)
        for line in report.growth(details[0], details[-1], problems):
            print(line, file=sys.stderr)
        return 1 if problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--otp", type=int, nargs="*", default=[25, 27, 29], help="the BEAMs in the mesh")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.minutes:g} minutes")
    try:
        return soak(options.minutes * 60, options.seed, tuple(options.otp))
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


sys.exit(main())
