"""Two real nodes in a simulated cluster, to compare with a fake."""

import asyncio

from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

__all__ = ["RealNodes"]


class RealNodes:
    """The nodes ``a`` and ``b``, which are not connected."""

    def run(self, function):
        """Run ``function(me, a, b, self)`` in a process of ``a``. Return what it returns."""

        async def main():
            async with Cluster(1, reconnect=False) as self.cluster:
                self.a, self.b = await self.cluster.start("a", "b")
                done = asyncio.get_running_loop().create_future()

                async def body(me):
                    try:
                        done.set_result(await function(me, self.a, self.b, self))
                    except BaseException as error:
                        done.set_exception(error)

                self.a.spawn(body)
                return await asyncio.wait_for(done, 60)

        return run(main)
