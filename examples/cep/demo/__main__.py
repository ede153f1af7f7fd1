"""``python -m cep.demo``: play the scenes. Run it in the folder ``examples``, or as ``make cep-demo``."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from pathlib import Path

from cep.demo.chart import ChartUnavailable, draw
from cep.demo.containers import ContainerMesh
from cep.demo.mesh import LocalMesh
from cep.demo.record import Record
from cep.demo.scenes import Story
from erlmesh.demo.console import Console
from erlmesh.demo.docker import IMAGE
from erlmesh.demo.local import raise_keyboard_interrupt
from erlmesh.demo.shells import DemoFailed

SCENES = ("plain", "kill", "short_pause", "long_pause", "cut", "stop", "elixir")
SHORT = ("plain", "kill", "stop")


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0 if every check passed, 1 if one failed, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    chosen = {"plain", *(options.scene or ()), *(SHORT if options.short else () if options.scene else SCENES)}
    console, started = Console(), time.monotonic()
    try:
        record = _play(options, console, chosen)
    except DemoFailed as failure:  # of the cleanup
        console.fail(str(failure))
        return 1
    except KeyboardInterrupt:
        return 130
    if record is None:
        return 1
    _draw(console, record, Path(options.out))
    console.heading(f"All {console.checks_passed} checks passed in {time.monotonic() - started:.1f} s.")
    return 0


def _play(options: argparse.Namespace, console: Console, chosen: set[str]) -> Record | None:
    """Play the chosen scenes. Return None if a check failed. Raises DemoFailed if the cleanup failed."""
    with tempfile.TemporaryDirectory(prefix="erlmesh-cep-") as folder, contextlib.ExitStack() as cleanup:
        previous_handler = signal.signal(signal.SIGTERM, raise_keyboard_interrupt)
        cleanup.callback(signal.signal, signal.SIGTERM, previous_handler)
        mesh: LocalMesh | ContainerMesh | None = None
        try:
            mesh = _make_mesh(options, Path(folder))
            cleanup.callback(mesh.close)
            observer = mesh.start()
            story = Story(console, mesh, observer, options.net_ticktime, options.patience)
            for name in SCENES:
                if name in chosen:
                    getattr(story, name)()
            story.compare()
            return Record(**observer.ask("get_record"))
        except DemoFailed as failure:
            console.fail(str(failure))
            if options.verbose and mesh is not None:
                for log in mesh.logs():
                    print(f"--- {log.name}\n{log.read_text(encoding='utf-8', errors='replace')}", file=sys.stderr)
            return None


def _make_mesh(options: argparse.Namespace, folder: Path) -> LocalMesh | ContainerMesh:
    if options.docker:
        return ContainerMesh(folder, options.net_ticktime, options.image)
    return LocalMesh(folder, options.net_ticktime)


def _draw(console: Console, record: Record, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record.write(folder / "cep-demo.json")
    charts = [folder / "cep-demo.svg", folder / "cep-demo.png"]
    try:
        draw(record, *charts)
    except ChartUnavailable as reason:
        console.comment(str(reason))
    else:
        console.comment(f"the chart: {charts[0].resolve()} and {charts[1].name}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cep.demo",
        description="Three owners of 30 symbols are killed, paused, cut off and stopped, while two sources send ticks. "
        "At the end all results are compared with those of one process.",
    )
    parser.add_argument("--short", action="store_true", help=f"play only {', '.join(SHORT)}, and what --scene names")
    parser.add_argument("--scene", action="append", choices=SCENES, metavar="NAME", help="play only this scene; may be "
                        f"repeated: {', '.join(SCENES)}")  # fmt: skip
    parser.add_argument("--docker", action="store_true", help="run each node in a container")
    parser.add_argument("--image", default=IMAGE, help=f"the image for --docker, else {IMAGE}")
    parser.add_argument(
        "--net-ticktime", type=_seconds, default=8.0, metavar="SECONDS", help="that of all nodes; else 8"
    )
    parser.add_argument("--patience", type=float, default=1.0, metavar="FACTOR", help="multiply all limits of time")
    parser.add_argument(
        "--out", default="build", metavar="FOLDER", help="where the record and the chart go; else build"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="if a check fails, show the logs of all nodes")
    return parser


def _seconds(text: str) -> float:
    if not 2 <= (seconds := float(text)) <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not from 2 to 3600 seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
