"""The mutants of the simulator are made as those of the nodes."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "sim"))
