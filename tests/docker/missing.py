"""What cannot be tested on this machine is told in one line at the end; in CI it is a failure."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

NOT_TESTED = pytest.StashKey[dict[str, int]]()


def not_here(request: pytest.FixtureRequest, why: str) -> NoReturn:
    """A test that cannot run on this machine: counted and told at the end; in CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must test this, and cannot: {why}", pytrace=False)
    seen = request.config.stash[NOT_TESTED]
    seen[why] = seen.get(why, 0) + 1
    pytest.skip(why)
