"""python -m fuzz.replay TARGET FILE ...: run input of the coverage-guided fuzzer again, without its instrumentation."""

import sys
from pathlib import Path

from fuzz.targets import TARGETS


def main() -> None:
    """Run each file. Raises what the target raises."""
    target, *files = sys.argv[1:]
    for file in files:
        print(file)
        TARGETS[target](Path(file).read_bytes())


main()
