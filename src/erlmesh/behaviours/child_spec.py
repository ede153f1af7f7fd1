"""What a supervisor has to know about a child."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, Self, TypeAlias

from erlmesh.behaviours.gen_server import GenServer
from erlmesh.behaviours.starting import require_free_name
from erlmesh.core.supervision import RestartType, Shutdown
from erlmesh.node import Process
from erlmesh.records import record
from erlmesh.terms import Atom, Pid, Term

__all__ = ["ChildSpec", "Modules", "StartFunction", "StartResult"]

StartResult: TypeAlias = "Pid | Atom | tuple[Atom, Pid] | tuple[Atom, Pid, Any]"
"""The pid of the child, ``(Atom("ok"), pid, info)``, or ``Atom("ignore")`` if there is nothing to do for it."""

StartFunction: TypeAlias = "Callable[[Process], Awaitable[StartResult]]"
"""``async def start(supervisor)``: starts the child, linked to the process ``supervisor``, and returns its pid.

A child that returns ``Atom("ignore")`` has no process, and its supervisor goes on. A temporary child is forgotten. Any
other one stays known by its id, and is tried again with its neighbours, or by ``restart_child``.
"""

Modules: TypeAlias = "tuple[Atom, ...] | Literal['dynamic']"
"""The modules of the process, or ``dynamic`` if they change."""

_ServerClass: TypeAlias = type[GenServer]
# Within the class below, `type` is one of its fields.

START: Final[tuple[Atom, Atom, list[Term]]] = (Atom("erlmesh"), Atom("start_child"), [])


@record(frozen=True, eq=False)
class ChildSpec:
    """``ChildSpec("counter", start=lambda me: Counter.start_link(me, 5))``. OTP's child specification.

    :meth:`server` and :meth:`process` make it for the two common cases. Raises ValueError for an unknown ``restart``,
    ``shutdown`` or ``type``.
    """

    id: Term
    """Unique among the children of the supervisor."""
    start: StartFunction
    restart: RestartType = "permanent"
    """``permanent``: always restarted. ``transient``: only if it fails. ``temporary``: never."""
    shutdown: Shutdown = 5.0
    """Seconds that it gets to end after the exit signal ``shutdown``; ``brutal_kill``, or None for any time."""
    type: Literal["worker", "supervisor"] = "worker"
    modules: Modules = ()
    """Shown by ``which_children``."""
    mfa: Term = START
    """Shown by ``get_childspec``: the start function of a child that another node has asked for."""

    def __post_init__(self) -> None:
        if self.restart not in ("permanent", "transient", "temporary"):
            raise ValueError(f"restart is permanent, transient or temporary, not {self.restart!r}")
        if self.type not in ("worker", "supervisor"):
            raise ValueError(f"type is worker or supervisor, not {self.type!r}")
        shutdown = self.shutdown
        if not (
            shutdown is None or shutdown == "brutal_kill" or (isinstance(shutdown, (int, float)) and shutdown >= 0)
        ):
            raise ValueError(f"shutdown is a number of seconds, 'brutal_kill' or None, not {shutdown!r}")

    @classmethod
    def server(
        cls,
        server: _ServerClass,
        *arguments: Any,
        id: Term = None,
        restart: RestartType = "permanent",
        shutdown: Shutdown = 5.0,
        **options: Any,
    ) -> Self:
        """A GenServer with the arguments of its ``init``. ``options`` are those of ``start_link``, as ``name``."""
        name = Atom(server.__name__)
        return cls(
            name if id is None else id,
            lambda me: server.start_link(me, *arguments, **options),
            restart=restart,
            shutdown=shutdown,
            modules=(name,),
        )

    @classmethod
    def process(
        cls,
        body: Callable[..., Awaitable[Any]],
        *arguments: Any,
        id: Term = None,
        name: Atom | str | None = None,
        restart: RestartType = "permanent",
        shutdown: Shutdown = 5.0,
    ) -> Self:
        """A plain body, ``async def body(me, *arguments)``."""

        async def start(me: Process) -> Pid:
            require_free_name(me.node, name)
            return me.spawn(body, *arguments, name=name, link=True)

        return cls(
            Atom(getattr(body, "__name__", "process")) if id is None else id,
            start,
            restart=restart,
            shutdown=shutdown,
        )
