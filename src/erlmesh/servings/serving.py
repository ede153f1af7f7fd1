"""``@serving``: a function of a list of inputs, offered to the cluster as a service for single inputs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, overload

from erlmesh.behaviours.child_spec import ChildSpec
from erlmesh.behaviours.supervisor import Supervisor
from erlmesh.core.batching import BYTE_LIMIT
from erlmesh.core.supervision import RestartType, Shutdown
from erlmesh.node import Node, Process
from erlmesh.servings.client import ServingClient
from erlmesh.servings.runners import Function
from erlmesh.servings.server import ServingServer, call_exposed
from erlmesh.servings.settings import ServingSettings, serving_name
from erlmesh.terms import Atom, Pid, Term

__all__ = ["Serving", "serving"]


class Serving:
    """What ``@serving`` makes of a function. The function itself is :attr:`function`, and a call calls it.

    ::

        async with embed.running(node): ...                     # in a program
        Supervisor.start(node, [embed.child_spec(), ...])       # among other children
        erlmesh start --app models:embed                        # as the only work of a node

        await embed.run(node, b"text")                          # one input, on any node that serves it
    """

    def __init__(self, settings: ServingSettings) -> None:
        self.settings = settings
        self.function: Function = settings.function
        """The function of a list of inputs."""
        self.name: Atom = settings.name
        """The registered name of the process, and the name of its groups."""
        self.__doc__ = settings.function.__doc__
        self.__name__ = settings.function.__name__
        self.__module__ = settings.function.__module__
        self._exposed = self._make_exposed()

    def __call__(self, inputs: list[Any]) -> Any:
        """Call the function here and now, as in its tests."""
        return self.function(inputs)

    def __repr__(self) -> str:
        return f"<Serving {self.name}>"

    # Start

    async def start(self, node: Node) -> Pid:
        """Start it on ``node``, without a link. Raises ProcessStartError, also if its module cannot be imported."""
        return await ServingServer.start(node, *self._arguments(), **self._names())

    async def start_link(self, parent: Process) -> Pid:
        """Start it with a link to ``parent``."""
        return await ServingServer.start_link(parent, *self._arguments(), **self._names())

    def child_spec(self, *, restart: RestartType = "permanent", shutdown: Shutdown = 30.0) -> ChildSpec:
        """Return it as a child of a supervisor. At a stop it gets ``shutdown`` seconds to answer its callers."""
        return ChildSpec(self.name, self.start_link, restart=restart, shutdown=shutdown, modules=(self.name,))

    def running(self, node: Node) -> AbstractAsyncContextManager[Pid]:
        """``async with embed.running(node):`` runs it under a supervisor, and stops it in order at the end."""
        return Supervisor.running(node, [self.child_spec()])

    async def __erlmesh_app__(self, me: Process, ready: Callable[[], object]) -> None:
        """Run it as the process of ``erlmesh start --app``. ``ready()`` is called when it has started."""
        await Supervisor.start_link(me, [self.child_spec()])
        ready()
        async for message in me:
            me.unhandled(message)

    # Callers

    async def run(self, caller: Node | Process, value: Any, *, timeout: float | None = 5.0) -> Any:
        """Return the output for one input. See :meth:`ServingClient.run`."""
        return await ServingClient(caller, self.name).run(value, timeout=timeout)

    def stream(self, caller: Node | Process, value: Any, *, timeout: float | None = 5.0) -> AsyncIterator[Any]:
        """Return the events for one input. See :meth:`ServingClient.stream`."""
        return ServingClient(caller, self.name).stream(value, timeout=timeout)

    def _arguments(self) -> tuple[ServingSettings, Callable[..., Any]]:
        return self.settings, self._exposed

    def _names(self) -> dict[str, Any]:
        return {"name": self.name, "groups": [self.name]}

    def _make_exposed(self) -> Callable[..., Any]:
        """Return the function that ``erpc`` calls. It is one object for all starts, and for all nodes."""
        name = self.name

        async def exposed(me: Process, value: Term) -> Term:
            return await call_exposed(me, name, value)

        exposed.__module__ = self.settings.function.__module__
        exposed.__qualname__ = self.settings.function.__qualname__
        return exposed


@overload
def serving(function: Function, /) -> Serving: ...
@overload
def serving(
    *,
    batch_size: int = 32,
    wait: float = 0.01,
    limit: int = 1000,
    byte_limit: int = BYTE_LIMIT,
    threads: int = 1,
    processes: int = 0,
    time_limit: float | None = 30.0,
    name: Atom | str | None = None,
    as_: str | None = None,
    nx: bool = False,
    weight: int = 1,
) -> Callable[[Function], Serving]: ...
def serving(
    function: Function | None = None,
    /,
    *,
    batch_size: int = 32,
    wait: float = 0.01,
    limit: int = 1000,
    byte_limit: int = BYTE_LIMIT,
    threads: int = 1,
    processes: int = 0,
    time_limit: float | None = 30.0,
    name: Atom | str | None = None,
    as_: str | None = None,
    nx: bool = False,
    weight: int = 1,
) -> Any:
    """Make a function of a list of inputs a service: callers send single inputs, and share batches.

    ::

        @serving(batch_size=32, wait=0.01)
        def embed(texts: list[bytes]) -> list[list[float]]:
            return model.encode([text.decode() for text in texts]).tolist()

    A batch starts when ``batch_size`` inputs wait, or when the oldest has waited for ``wait`` seconds. The function
    returns a list with one output for each input; an exception in the list answers one caller. A generator function
    yields such a list for each step of a stream, with None for an input that has no event in this step.

    ``limit`` bounds the inputs that wait, and ``byte_limit`` (256 MiB) bounds about how many bytes they have together.
    A caller above them is refused at once, with ``overloaded``. ``time_limit`` bounds the seconds from an input to its
    answer, or to the end of its stream. An input whose caller is gone is dropped before its batch.

    A plain function runs in ``threads`` threads, so it must be thread-safe if that is more than 1; or in ``processes``
    worker processes, which import its module. A coroutine function runs in the event loop, ``threads`` calls at a time.

    ``name`` (by default the function's name) is the registered name and the ``pg`` group. If it begins with a capital
    letter, it is an Elixir module: ``MyApp.Embeddings``. ``erpc`` calls the function as ``module:function/1``; ``as_``
    is another module name. With ``nx``, Elixir calls it as ``Nx.Serving.batched_run({:distributed, name}, input)``, and
    chooses it ``weight`` times as often as one of weight 1.

    Raises ValueError and TypeError for options that do not fit.
    """

    def make(function: Function) -> Serving:
        module = as_ or (getattr(function, "__module__", None) or "__main__").rpartition(".")[2]
        return Serving(
            ServingSettings(
                function,
                name=serving_name(getattr(function, "__name__", "serving") if name is None else name),
                module=module,
                batch_size=batch_size,
                wait=wait,
                limit=limit,
                byte_limit=byte_limit,
                threads=threads,
                processes=processes,
                time_limit=time_limit,
                nx=nx,
                weight=weight,
            )
        )

    return make if function is None else make(function)
