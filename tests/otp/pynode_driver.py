"""The program of :class:`pynode.PyNode`: an erlmesh node that evaluates requests from its standard input.

``python pynode_driver.py '{"name": ..., "cookie": ...}' EVENT_LOOP``, where the event loop is ``asyncio`` or
``uvloop``. A request is evaluated in the body of one process, ``me``, with ``node``, the names of erlmesh and all
earlier assignments as globals. Statements and ``await`` work. If a signal terminates that process, another one replaces
it.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import inspect
import json
import logging
import pickle
import signal
import sys
import threading
import traceback
from typing import Any

import erlmesh

MARK = "\x02"


def answer(number: str, verdict: str, value: bytes) -> None:
    sys.stdout.write(f"{MARK} {number} {verdict} {base64.b64encode(value).decode()}\n")
    sys.stdout.flush()


def compiled(source: str) -> Any:
    for mode in ("eval", "exec"):
        try:
            return compile(source, "<test>", mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError:
            if mode == "exec":
                raise
    return None


def add_public_names(source: str, names: dict[str, Any]) -> None:
    """Add the names of erlmesh that the source uses. The others are not imported: the benchmark measures the memory."""
    used = {found.id for found in ast.walk(ast.parse(source)) if isinstance(found, ast.Name)}
    names |= {name: getattr(erlmesh, name) for name in used.intersection(erlmesh.__all__) - names.keys()}


async def evaluate(line: str, names: dict[str, Any]) -> None:
    number, encoded_source, bindings = line.split()
    source = base64.b64decode(encoded_source).decode()
    try:
        names.update(pickle.loads(base64.b64decode(bindings)))
        add_public_names(source, names)
        value = eval(compiled(source), names)
        if inspect.isawaitable(value):
            value = await value
        answer(number, "ok", pickle.dumps(value))
    except Exception:
        answer(number, "error", traceback.format_exc().encode())


def read_lines(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str]) -> None:
    for line in sys.stdin:
        loop.call_soon_threadsafe(lines.put_nowait, line.rstrip("\n"))
    loop.call_soon_threadsafe(lines.put_nowait, "")


async def main(options: dict[str, Any]) -> None:
    loop, lines, done = asyncio.get_running_loop(), asyncio.Queue[str](), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    if "tls" in options:
        options["tls"] = erlmesh.TlsConfig(**options["tls"])
    async with erlmesh.Node(**options) as node:
        names: dict[str, Any] = {"node": node, "asyncio": asyncio, "erlmesh": erlmesh}

        async def prompt(me: erlmesh.Process) -> None:
            names["me"] = me
            try:
                while line := await lines.get():
                    await evaluate(line, names)
                done.set()
            finally:
                if not done.is_set():
                    loop.call_soon(node.spawn, prompt)

        node.spawn(prompt)
        threading.Thread(target=read_lines, args=(loop, lines), daemon=True).start()
        answer("0", "ok", node.name.encode())
        await done.wait()


def loop_factory(event_loop: str) -> Any:
    if event_loop == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with asyncio.Runner(loop_factory=loop_factory(sys.argv[2])) as runner:
        runner.run(main(json.loads(sys.argv[1])))
