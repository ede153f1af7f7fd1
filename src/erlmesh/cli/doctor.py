"""Diagnose step by step why a node cannot be reached, and say what to do.

The steps are those of a connection: the name, its host, EPMD, the port, TLS, the handshake, flags and cookie. Then
come checks on the node: ping, global, pg. The command connects as a hidden node, so the other nodes do not see it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import textwrap
from typing import Any, Final

from erlmesh.cli.build_info import build_facts, describe_build
from erlmesh.cli.node_options import OptionValues, client_options, default_host
from erlmesh.cli.output import print_lines
from erlmesh.cli.settings import add_node_options, complete_name, ephemeral_name
from erlmesh.cli.term_parser import parse_atom
from erlmesh.doctor.diagnose import Target, diagnose
from erlmesh.doctor.findings import Finding, Status
from erlmesh.net.cookie_files import find_cookie
from erlmesh.net.epmd import Epmd, default_port
from erlmesh.records import fields
from erlmesh.runtime.option_parsers import parse_seconds

__all__ = ["EXAMPLE", "add_options", "run"]

EXAMPLE = """\
example:
  erlmesh doctor plato@127.0.0.1
  · erlmesh     0.1.0, pure Python (erlmesh-native is not installed), event loop asyncio
  ✓ name        plato@127.0.0.1 is a long node name
  ✓ dns         127.0.0.1 is an address, no lookup needed
  ✗ epmd        nothing listens on EPMD's port 4369 of 127.0.0.1
                …

The exit status is 0 if the node can be reached, and 1 if a step fails. With --json, the output is one object:
{"node", "ok", "erlmesh": {"version", "build", "event_loop"}, "steps": [{"step", "status", "summary", "explanation",
"advice", "facts"}]}; status is ok, note, skipped and failed."""

_SYMBOLS: Final = {Status.OK: "✓", Status.NOTE: "·", Status.SKIPPED: "-", Status.FAILED: "✗"}
_INDENT: Final = " " * 14
_WIDTH: Final = 110


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="NODE", help="the name of the node; without a host it gets that of --host")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--scope", metavar="NAME", action="append", help="a scope of pg to check, else pg; may be repeated"
    )
    parser.add_argument("--timeout", metavar="SECONDS", default="5", help="time limit of each step, 5")
    add_node_options(parser, client=True)


def run(options: argparse.Namespace) -> int:
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    findings: list[Finding] = []
    examined = _target(options)
    loop = asyncio.get_running_loop()
    if not options.json:
        print(f"{_SYMBOLS[Status.NOTE]} {'erlmesh':<12}{describe_build(loop)}", flush=True)
    async for finding in diagnose(examined):
        findings.append(finding)
        if not options.json:
            print_lines(_format_finding(finding))
    fine = all(finding.status is not Status.FAILED for finding in findings)
    if options.json:
        found = _to_json(examined.node_name, findings, ok=fine) | {"erlmesh": build_facts(loop)}
        json.dump(found, sys.stdout, indent=2)
        print()
    else:
        print(f"\n{examined.node_name} can be reached." if fine else f"\n{examined.node_name} cannot be reached.")
    return 0 if fine else 1


def _target(options: argparse.Namespace) -> Target:
    values = OptionValues(options, os.environ)
    host = default_host(values)
    target = parse_atom(options.node)
    target = target if "@" in target else f"{target}@{host}"
    local_name = options.name or os.environ.get("ERLMESH_NAME")
    chosen = client_options(values)
    resolver = chosen["resolver"]
    local_name = None if local_name is None else complete_name(local_name, host)
    client_name = ephemeral_name(target)
    if (
        "tls" in chosen and local_name is not None
    ):  # some nodes require that our certificate is for the host of our name
        client_name = f"{client_name.partition('@')[0]}@{local_name.partition('@')[2]}"
    return Target(
        target,
        client_name,
        cookie=lambda: find_cookie(options.cookie, options.cookie_file, os.environ),
        epmd_port=default_port(),
        local_name=local_name,
        resolver=None if isinstance(resolver, Epmd) else resolver,
        cookies=chosen.get("cookies", {}),
        tls=chosen.get("tls"),
        scopes=[parse_atom(scope) for scope in options.scope or ("pg",)],
        timeout=parse_seconds(options.timeout, "--timeout"),
    )


def _format_finding(finding: Finding) -> str:
    first_line = f"{_SYMBOLS[finding.status]} {finding.step:<12}" + _wrap(finding.summary)
    rest = [finding.explanation, *(f"→ {advice}" for advice in finding.advice)]
    return "\n".join([first_line, *(_INDENT + _wrap(text, "  " * text.startswith("→")) for text in rest if text)])


def _wrap(text: str, indent: str = "") -> str:
    folded = (
        line
        for paragraph in text.splitlines()
        for line in textwrap.wrap(paragraph, _WIDTH - len(_INDENT), break_long_words=False, break_on_hyphens=False)
    )
    return f"\n{_INDENT}{indent}".join(folded)


def _to_json(target: str, findings: list[Finding], *, ok: bool) -> dict[str, Any]:
    return {"node": target, "ok": ok, "steps": [_step_to_json(each) for each in findings]}


def _step_to_json(finding: Finding) -> dict[str, Any]:
    values = {each.name: getattr(finding, each.name) for each in fields(Finding)}
    return {**values, "status": finding.status.value}
