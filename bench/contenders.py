"""The contenders: a BEAM, and erlmesh in each build, on each event loop and from any checkout."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["BEAM", "ROOT", "Contender", "available", "default_contenders", "parse_contenders"]

ROOT = Path(__file__).resolve().parent.parent
BEAM = "beam"
BUILDS = ("pure", "native")
OPTIONS = ("metrics", "traces")
QUIET = ("+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none")


@dataclass(frozen=True)
class Contender:
    """What is measured. ``name`` is its name on the command line, in the table and in the JSON."""

    name: str
    is_beam: bool = False
    beam_arguments: tuple[str, ...] = ()
    build: str = ""
    event_loop: str = "asyncio"
    options: tuple[str, ...] = ()
    """What is on in the node: ``metrics``, ``traces``."""
    source: Path = field(default=ROOT / "src")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its Python process, beside that of an isolated node."""
        return {"PYTHONPATH": f"{self.source}:{ROOT}", "ERLMESH_PURE": "1" if self.build == "pure" else ""}


def parse_contenders(text: str) -> list[Contender]:
    """``beam,pure,native-uvloop,pure@/path/of/a/checkout``. Raises ValueError."""
    contenders = [_parse(name.strip()) for name in text.split(",") if name.strip()]
    if not any(contender.name == BEAM for contender in contenders):
        contenders.insert(0, _parse(BEAM))
    return list(dict.fromkeys(contenders))


def _parse(name: str) -> Contender:
    if name in (BEAM, "beam-quiet"):
        return Contender(name, is_beam=True, beam_arguments=() if name == BEAM else QUIET)
    kind, _, checkout = name.partition("@")
    kind, *options = kind.split("+")
    build, _, event_loop = kind.partition("-")
    if build not in BUILDS or event_loop not in ("", "uvloop") or not {*options} <= {*OPTIONS}:
        raise ValueError(
            f"{name!r} is not a contender: it is beam, beam-quiet (a BEAM without busy waiting), pure, pure-uvloop, "
            "native or native-uvloop; pure@FOLDER is the pure build of another checkout, native+metrics has metrics on"
        )
    source = Path(checkout).resolve() / "src" if checkout else ROOT / "src"
    if not (source / "erlmesh").is_dir():
        raise ValueError(f"{name!r}: there is no {source / 'erlmesh'}")
    return Contender(name, build=build, event_loop=event_loop or "asyncio", options=tuple(options), source=source)


def default_contenders() -> list[Contender]:
    """A BEAM and all builds and event loops that are installed."""
    names = (BEAM, "pure", "pure-uvloop", "native", "native-uvloop")
    return [contender for contender in map(_parse, names) if available(contender)]


def available(contender: Contender) -> bool:
    """True if this Python has the native module and the event loop that the contender needs."""
    if contender.event_loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        return False
    return contender.build != "native" or _has_native_module(contender)


def _has_native_module(contender: Contender) -> bool:
    source = "from erlmesh import native; raise SystemExit(native.module is None)"
    environment = {**os.environ, **contender.environment}
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, check=False)
    return done.returncode == 0
