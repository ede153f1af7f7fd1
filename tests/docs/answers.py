"""Compares what a document shows with what a program printed."""

from __future__ import annotations

import re

__all__ = ["is_query", "same"]

_QUERY = re.compile(r"get_members|get_local_members|which_groups|Node\.list|whereis|nodes\(\)|blocked_peers|members")
_CHANGING = (
    (re.compile(r"#PID<0\.[\d.]+>"), "#PID<local>"),
    (re.compile(r"#PID<[1-9][\d.]*>"), "#PID<remote>"),
    (re.compile(r"#Reference<[\d.]+>"), "#Reference<>"),
    (re.compile(r"(\bport )\d+"), r"\1N"),
    (re.compile(r"(\.py\", line )\d+"), r"\1N"),
    (re.compile(r"(?<![\w.])\d+(\.\d+)? (ms|s)\b"), r"N \2"),
    (re.compile(r"^global at .*$", re.MULTILINE), ""),  # OTP's remark about two cluster parts with one name
)


def is_query(line: str) -> bool:
    """Another node decides the answer, so the answer may come a moment later. The line can be typed again."""
    return _QUERY.search(line) is not None


def same(shown: str, printed: str) -> bool:
    """Pids, times, ports and the order of lists may differ. ``…`` in the document stands for any text."""
    expected, actual = _plain(shown), _plain(printed)
    if expected.startswith("[") and expected.endswith("]") and "…" not in expected:
        return actual[:1] == "[" and sorted(expected[1:-1].split(", ")) == sorted(actual[1:-1].split(", "))
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return re.fullmatch(pattern, actual, re.DOTALL) is not None


def _plain(text: str) -> str:
    for changing, replacement in _CHANGING:
        text = changing.sub(replacement, text)
    return " ".join(text.split())
