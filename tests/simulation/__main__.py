"""Command-line entry point: ``python -m simulation`` with ``tests`` on the path, or ``make sim``."""

import sys

from simulation.runner import main

if __name__ == "__main__":
    sys.exit(main())
