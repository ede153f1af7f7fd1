"""python -m fuzz.guided TARGET [--seconds 10]: run one target with input that finds new code (atheris, libFuzzer).

It starts from ``tests/fuzz/corpus/TARGET`` and from the seeds (``fuzz.seeds``). It keeps what it finds in
``build/fuzz/TARGET``, and goes on from there the next time. Input that fails is in ``build/fuzz/TARGET-crash-*``.
``python -m fuzz.replay TARGET FILE`` runs it again. ``--minimize`` writes the smallest input for each path to the
corpus of the repository instead.

The target ``all`` runs each target in a process of its own, one after the other.
"""

import argparse
import logging
import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

from fuzz.guided_names import NAMES

ROOT = Path(__file__).parents[2]
MAX_LENGTH = {"services": 4_096}
"""Bytes of one input; for the other targets 16 KiB, so that each run stays short."""
TIMEOUT = 60
"""Seconds for one input. Each input is a few KiB, so that much time means work that grows faster than the input."""
MEMORY = 2_048
"""MiB that the whole process may use."""


def directories(target: str, seeds: list[bytes]) -> tuple[Path, Path]:
    """Return the directory of new input and the corpus of the repository. The seeds are in the first one."""
    found, corpus = ROOT / "build/fuzz" / target, ROOT / "tests/fuzz/corpus" / target
    for directory in (found, corpus):
        directory.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds):
        (found / f"seed-{index}").write_bytes(seed)
    return found, corpus


def run_all(options: argparse.Namespace) -> int:
    """Run each target in its own process, because libFuzzer ends the process. Return the first status that is not 0."""
    for name in NAMES:
        seconds = max(1, options.seconds // len(NAMES))
        print(f"--- {name}: {seconds} s", flush=True)
        command = [sys.executable, "-m", "fuzz.guided", name, "--seconds", str(seconds), "--seed", str(options.seed)]
        status = subprocess.run(command + ["--minimize"] * options.minimize, check=False).returncode
        if status:
            return status
    return 0


def run_target(options: argparse.Namespace) -> None:
    """Run one target. libFuzzer ends the process, with status 0 if no input failed."""
    import atheris  # not at the top: `all` does not need it, and a clear message is better than a traceback

    with atheris.instrument_imports(include=["erlmesh"]):
        from fuzz.targets import TARGETS
    from fuzz.seeds import SEEDS, mutate_actions

    logging.getLogger("erlmesh").addHandler(logging.NullHandler())
    logging.getLogger("erlmesh").propagate = False
    found, corpus = directories(options.target, SEEDS[options.target]())
    # libFuzzer starts itself again with its first argument, in a shell, to merge input.
    itself = f"{shlex.quote(sys.executable)} -m fuzz.guided {options.target}"
    arguments = [
        itself,
        f"-max_len={MAX_LENGTH.get(options.target, 16_384)}",
        f"-timeout={TIMEOUT}",
        f"-rss_limit_mb={MEMORY}",
        f"-artifact_prefix={ROOT}/build/fuzz/{options.target}-",
        "-verbosity=0",
        f"-seed={options.seed}",
    ]
    if options.libfuzzer:
        arguments = [itself, *options.libfuzzer]
    elif options.minimize:
        arguments += ["-merge=1", str(corpus), str(found)]
    else:
        arguments += ["-print_final_stats=1", f"-max_total_time={max(1, options.seconds)}", str(found), str(corpus)]
    mutators = {"custom_mutator": mutate_actions} if options.target == "services" else {}
    atheris.Setup(arguments, TARGETS[options.target], **mutators)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=[*NAMES, "all"])
    parser.add_argument("--seconds", type=int, default=10, help="of each target; for `all`, of all together")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 2**31))
    parser.add_argument("--minimize", action="store_true", help="write the smallest corpus to tests/fuzz/corpus")
    options, options.libfuzzer = parser.parse_known_args()
    if options.target == "all":
        return run_all(options)
    try:
        run_target(options)
    except ModuleNotFoundError as error:
        if error.name != "atheris":
            raise
        print("atheris is not installed: it has no wheel for this Python or this processor", file=sys.stderr)
        return os.EX_UNAVAILABLE
    return 0


sys.exit(main())
