"""A watcher that keeps workers running, like a small supervisor.

It monitors its workers and restarts a worker that fails. After more than 3 restarts in 5 seconds it gives up, as an OTP
supervisor does. Run ``python examples/watcher.py``.
"""

import asyncio
from collections import deque

from erlmesh import Atom, Exit, Node, Pid, Process, Ref

MAX_RESTARTS, MAX_SECONDS = 3, 5.0


async def fragile(me: Process, name: str) -> None:
    """Fail at the first message that is not ``ok``."""
    me.register(name)
    async for message in me:
        if message != Atom("ok"):
            raise Exit((Atom("bad_message"), message))


async def watcher(me: Process, names: list[str]) -> None:
    """Start one worker for each name. Terminate with ``shutdown`` when the workers fail too often."""
    workers: dict[Ref, str] = {}
    restarts: deque[float] = deque()
    loop = asyncio.get_running_loop()

    def start(name: str) -> None:
        workers[me.monitor(me.spawn(fragile, name))] = name

    for name in names:
        start(name)
    async for message in me:
        match message:
            case (Atom("DOWN"), Ref() as ref, _, Pid(), reason) if ref in workers:
                name = workers.pop(ref)
                print(f"{name} terminated: {reason}", flush=True)
                if reason == Atom("normal"):
                    continue
                restarts.append(loop.time())
                while restarts[0] < loop.time() - MAX_SECONDS:
                    restarts.popleft()
                if len(restarts) > MAX_RESTARTS:
                    raise Exit(Atom("shutdown"))
                start(name)


async def main() -> None:
    async with Node("watcher@127.0.0.1", cookie="monster") as node:
        node.spawn(watcher, ["worker"], name="watcher")
        while node.whereis("watcher") is not None:
            if node.whereis("worker") is not None:
                node.send("worker", "nonsense")
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main())
