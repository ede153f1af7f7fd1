"""What cannot be tested on this machine is told in one line at the end; in CI it is a failure."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

SKIPPED = pytest.StashKey[dict[str, int]]()


def skip_or_fail(request: pytest.FixtureRequest, reason: str) -> NoReturn:
    """A test that cannot run on this machine: counted and told at the end; in CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must test this, and cannot: {reason}", pytrace=False)
    seen = request.config.stash[SKIPPED]
    seen[reason] = seen.get(reason, 0) + 1
    pytest.skip(reason)
