"""Finds every call of erlmesh's log in the source, for the page of the log events and its test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["SOURCE", "LogCall", "log_calls"]

SOURCE: Final = Path(__file__).parent.parent / "src" / "erlmesh"
METHODS: Final = ("debug", "info", "warning", "error", "exception", "write")
LOGS: Final = re.compile(r"(^|\.)_?(peer_|command_)?log$")
OWN_FIELDS: Final = {"exc_info", "error"}


@dataclass(frozen=True)
class LogCall:
    """One call. ``event`` is None if it has no literal name. ``level`` is ``varies`` if the code chooses it."""

    place: str
    event: str | None
    level: str
    logger: str
    fields: tuple[str, ...]
    message: str | None
    arguments: int
    is_partial: bool
    """``partial(log.info, …)``: more arguments may follow."""


def log_calls() -> list[LogCall]:
    """All calls, in the order of the files."""
    return [call for path in sorted(SOURCE.rglob("*.py")) for call in _calls_of(path)]


def _calls_of(path: Path) -> Iterator[LogCall]:
    text = path.read_text(encoding="utf-8")
    found = re.search(r'event_log\((?:"([\w.]+)"|__name__)\)', text)
    if found is None and "peer_log" not in text:
        return
    logger = "erlmesh.phoenix" if found is None else found[1] or _module(path)
    for node in ast.walk(ast.parse(text)):
        call = _log_call(node)
        if call is not None:
            yield _described(call, f"{path.relative_to(SOURCE)}:{call.lineno}", logger, is_partial=call is not node)


def _module(path: Path) -> str:
    return ".".join(("erlmesh", *path.relative_to(SOURCE).with_suffix("").parts))


def _log_call(node: ast.AST) -> ast.Call | None:
    """The call with the arguments of the log, also in ``partial(log.info, …)``."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Attribute) and _is_log(node.func):
        return node
    if ast.unparse(node.func) == "partial" and isinstance(node.args[0], ast.Attribute) and _is_log(node.args[0]):
        inner = ast.Call(func=node.args[0], args=node.args[1:], keywords=node.keywords)
        return ast.copy_location(inner, node)
    return None


def _is_log(function: ast.Attribute) -> bool:
    return function.attr in METHODS and LOGS.search(ast.unparse(function.value)) is not None


def _described(call: ast.Call, place: str, logger: str, *, is_partial: bool) -> LogCall:
    assert isinstance(call.func, ast.Attribute)
    arguments, level = list(call.args), call.func.attr
    fields = [each.arg or "**" for each in call.keywords if each.arg not in OWN_FIELDS]
    if level == "write":
        chosen = ast.unparse(arguments.pop(0))
        level = chosen.removeprefix("logging.").lower() if chosen.startswith("logging.") else "varies"
        cause = arguments.pop(1)
        if "name" in ast.unparse(cause) and "peer" not in fields:
            fields.append("peer")
    event = arguments.pop(0) if arguments else None
    message = arguments.pop(0) if arguments else None
    return LogCall(
        place,
        event.value if isinstance(event, ast.Constant) else None,
        "error" if level == "exception" else level,
        logger,
        tuple(fields),
        message.value if isinstance(message, ast.Constant) else None,
        len(arguments),
        is_partial,
    )
