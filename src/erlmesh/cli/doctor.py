"""Find out why a node cannot be met: step by step, in words, with what to do.

It goes the way that a connection goes (the name, its host, EPMD, the port, the handshake, flags and cookie), and then
looks around on the node: ping, global, pg. Nobody else of the cluster notices.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import textwrap
from dataclasses import asdict
from typing import Any, Final

from erlmesh.cli.cookie import find_cookie
from erlmesh.cli.node_options import OptionValues, client_options, default_host
from erlmesh.cli.settings import add_node_options, complete_name, ephemeral_name
from erlmesh.cli.term_parser import parse_atom
from erlmesh.doctor.diagnose import Target, diagnose
from erlmesh.doctor.findings import Finding, Status
from erlmesh.net.epmd import Epmd, default_port
from erlmesh.runtime.option_parsers import parse_seconds

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh doctor plato@127.0.0.1
  ✓ name        plato@127.0.0.1 is a long node name
  ✓ dns         127.0.0.1 is an address, nothing is to be looked up
  ✗ epmd        nothing listens on EPMD's port 4369 of 127.0.0.1
                …

The exit code is 0 if the node can be met, and 1 with the step that fails. With --json, one object:
{"node", "ok", "steps": [{"step", "status", "summary", "explanation", "advice", "facts"}]}; status is ok, note,
skipped and failed."""

_SYMBOLS: Final = {Status.OK: "✓", Status.NOTE: "·", Status.SKIPPED: "-", Status.FAILED: "✗"}
_INDENT: Final = " " * 14
_WIDTH: Final = 110


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="the node's name; its host is that of --host if not given")
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
    parser.add_argument(
        "--scope", metavar="NAME", action="append", help="scope of pg to look for; may be repeated [pg]"
    )
    parser.add_argument("--timeout", metavar="SECONDS", default="5", help="patience with each step, 5")
    add_node_options(parser, client=True)


def run(options: argparse.Namespace) -> int:
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    findings: list[Finding] = []
    patient = _target(options)
    async for finding in diagnose(patient):
        findings.append(finding)
        if not options.json:
            print(_format_finding(finding), flush=True)
    fine = all(finding.status is not Status.FAILED for finding in findings)
    if options.json:
        json.dump(_to_json(patient.node_name, findings, ok=fine), sys.stdout, ensure_ascii=False, indent=2)
        print()
    else:
        print(f"\n{patient.node_name} can be met." if fine else f"\n{patient.node_name} cannot be met as things are.")
    return 0 if fine else 1


def _target(options: argparse.Namespace) -> Target:
    values = OptionValues(options, os.environ)
    host = default_host(values)
    target = parse_atom(options.node)
    target = target if "@" in target else f"{target}@{host}"
    ours = options.name or os.environ.get("ERLMESH_NAME")
    chosen = client_options(values)
    resolver = chosen["resolver"]
    return Target(
        target,
        ephemeral_name(target),
        cookie=lambda: find_cookie(options.cookie, options.cookie_file, os.environ),
        epmd_port=default_port(),
        local_name=None if ours is None else complete_name(ours, host),
        resolver=None if isinstance(resolver, Epmd) else resolver,
        cookies=chosen.get("cookies", {}),
        scopes=[parse_atom(scope) for scope in options.scope or ("pg",)],
        timeout=parse_seconds(options.timeout, "--timeout"),
    )


def _format_finding(finding: Finding) -> str:
    said = f"{_SYMBOLS[finding.status]} {finding.step:<12}" + _wrap(finding.summary)
    below = [finding.explanation, *(f"→ {advice}" for advice in finding.advice)]
    return "\n".join([said, *(_INDENT + _wrap(text, "  " * text.startswith("→")) for text in below if text)])


def _wrap(text: str, indent: str = "") -> str:
    folded = (
        line
        for paragraph in text.splitlines()
        for line in textwrap.wrap(paragraph, _WIDTH - len(_INDENT), break_long_words=False, break_on_hyphens=False)
    )
    return f"\n{_INDENT}{indent}".join(folded)


def _to_json(target: str, findings: list[Finding], *, ok: bool) -> dict[str, Any]:
    return {"node": target, "ok": ok, "steps": [{**asdict(each), "status": each.status.value} for each in findings]}
