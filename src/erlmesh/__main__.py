"""``python -m erlmesh`` is ``erlmesh``."""

from __future__ import annotations

import sys

from erlmesh.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
