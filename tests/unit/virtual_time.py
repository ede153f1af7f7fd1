"""An event loop whose clock jumps to the next timer when nothing else is left to do; no test waits for real time."""

import asyncio
import selectors


class Stuck(AssertionError):
    """Nothing can happen any more, and the test still waits."""


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Stuck("nothing is left that could happen")
            self._loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """No threads and no sockets: what is not a timer or a callback never comes."""

    def __init__(self):
        self.now = 0.0
        self.errors = []
        super().__init__(_Selector(self))
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self):
        return self.now

    async def getaddrinfo(self, host, port, **_):
        return [(0, 0, 0, "", ("127.0.0.1", port))]


def run(main):
    """Runs the coroutine in virtual time; fails if anything raised where nobody could see it."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        result = runner.run(main)
        assert runner.get_loop().errors == []
        return result


async def run_iterations(count=10):
    """Lets everybody have some turns, without time passing."""
    for _ in range(count):
        await asyncio.sleep(0)
