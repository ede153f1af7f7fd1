"""Command-line entry point: ``python -m simulation.sharding`` with ``tests`` on the path, or ``make sim-shards``."""

import sys

from simulation.sharding.run_shards import main

if __name__ == "__main__":
    sys.exit(main())
