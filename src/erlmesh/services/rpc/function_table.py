"""The functions that other nodes may call on this node. :func:`expose` and ``node.expose`` fill the table.

A call from outside is looked up by module, function and arity. Names on the wire never import a module, read an
attribute or evaluate anything.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from types import CoroutineType, ModuleType
from typing import Any, Final, TypeAlias, TypeVar, overload

from erlmesh.core.exit_reasons import NOPROC
from erlmesh.errors import ErlangError, Exit, Undef
from erlmesh.records import record
from erlmesh.runtime.process import MFA, LocalProcess
from erlmesh.runtime.spawner import ensure_task
from erlmesh.runtime.thread_pool import Job, NotWanted, PoolFull, ThreadPool
from erlmesh.terms import Atom, Map, Pid, Ref, Term

__all__ = ["PROCESS_WIDE", "FunctionTable", "expose", "is_process_annotation", "value_of"]

F = TypeVar("F", bound=Callable[..., Any])

MAX_ARITY: Final = 255
_NIL: Final = Atom("nil")
_OVERLOADED: Final = Atom("overloaded")
_MARK: Final = "__erlmesh_exposed__"
_NEVER_AWAITABLE: Final = frozenset({int, float, str, bytes, bool, tuple, list, dict, Atom, Pid, Ref, Map, type(None)})
"""Types of results for which the slower ``inspect.isawaitable`` need not be asked."""

Outcome: TypeAlias = "Term | Coroutine[Any, Any, Term]"
"""The value of a function, or a coroutine that its process must await to get it. (A coroutine is not a term.)"""

FunctionKey: TypeAlias = tuple[str, str, int]
"""Module, function, arity."""


@record(frozen=True)
class _ExposedFunction:
    """A function in the table."""

    call: Callable[..., Any]
    takes_process: bool
    """True if the first parameter gets the process that the call runs in."""
    is_coroutine: bool
    """True for a coroutine function: its process needs a task of its own."""
    in_thread: bool
    """True if it is called in a thread: it is not a coroutine function, does not take the process, is not inline."""


class FunctionTable:
    """A table of functions. Look-ups that find nothing go on in ``defaults``.

    ``pool`` runs the functions that belong in a thread. Without one, they run in the event loop, as in a simulation.
    """

    def __init__(self, *defaults: FunctionTable, pool: ThreadPool | None = None) -> None:
        self._functions: dict[FunctionKey, _ExposedFunction] = {}
        self._defaults = defaults
        self._pool = pool
        self._lazy_modules: frozenset[str] = frozenset()
        self._load_lazy: Callable[[], object] | None = None

    def add_lazily(self, modules: Iterable[str], load: Callable[[], object]) -> None:
        """Call ``load()``, which adds functions here, at the first look-up of one in ``modules`` that is not there."""
        self._lazy_modules, self._load_lazy = frozenset(modules), load

    def add(self, function: Callable[..., Any], module: str, name: str | None = None, *, inline: bool = False) -> None:
        """Expose ``function`` as ``module:name``, for each number of positional arguments that it takes.

        A first parameter that is annotated ``Process`` is not counted: it gets the process that the call runs in. With
        ``inline``, a function that is not a coroutine function runs in the event loop. Raises ``TypeError`` for a value
        that cannot be called with positional arguments, and ``ValueError`` if another function has the name.
        """
        takes_process, arities = _parameters_of(function)
        name = name or getattr(function, "__name__", None)
        if name is None:
            raise TypeError(f"{function!r} has no name: give name=")
        # Raises at once if a name is too long for an atom.
        Atom(module), Atom(name)
        is_coroutine = inspect.iscoroutinefunction(function)
        exposed = _ExposedFunction(
            function, takes_process, is_coroutine, in_thread=not (is_coroutine or takes_process or inline)
        )
        for arity in arities:
            taken = self._functions.get((module, name, arity))
            if taken is not None and not _is_same_function(taken.call, function):
                raise ValueError(f"{module}:{name}/{arity} is taken by {taken.call!r}; give {function!r} another name")
            self._functions[module, name, arity] = exposed

    def add_module(self, module: ModuleType, as_: str | None = None, *, inline: bool = False) -> None:
        """Expose the functions of a Python module under ``as_``, or under the last part of the module's name.

        These are the functions that are marked with :func:`expose`. If there are none, they are all public functions
        that the module defines: those in ``__all__``, or those without a leading underscore. If the module has a
        table of its own in ``EXPOSED``, this table is merged instead. ``inline`` is as in :meth:`add`. Raises
        ``ValueError`` if there is nothing to expose.
        """
        own = getattr(module, "EXPOSED", None)
        if isinstance(own, FunctionTable):
            for key, exposed in own._functions.items():
                self._functions.setdefault(key, exposed)
            return
        functions = list(_functions_of(module))
        marked = [function for function in functions if hasattr(function, _MARK)]
        if not functions:
            raise ValueError(f"there is no public function in {module.__name__} to expose")
        for function in marked or functions:
            named, name, marked_inline = getattr(function, _MARK, (None, None, False))
            self.add(function, as_ or named or _last_part(module.__name__), name, inline=inline or marked_inline)

    def find(self, module: Atom, function: Atom, arity: int) -> _ExposedFunction | None:
        """The function, or None if it is not exposed."""
        return self._find((module.name, function.name, arity))

    def _find(self, key: FunctionKey) -> _ExposedFunction | None:
        found = self._functions.get(key)
        if found is None and key[0] in self._lazy_modules:
            self._load_all()
            found = self._functions.get(key)
        if found is None:
            for table in self._defaults:
                found = found or table._find(key)
        return found

    def _load_all(self) -> None:
        load, self._load_lazy, self._lazy_modules = self._load_lazy, None, frozenset()
        if load is not None:
            load()

    def has_module(self, module: Atom) -> bool:
        """Whether there is a function in ``module``."""
        tables = (self, *self._defaults)
        return any(module.name == key[0] for table in tables for key in table._functions)

    def names(self) -> list[FunctionKey]:
        """All functions that can be called, sorted."""
        for table in (self, *self._defaults):
            table._load_all()
        return sorted({key for table in (self, *self._defaults) for key in table._functions})

    def functions_of(self, module: str) -> list[tuple[str, int, Callable[..., Any]]]:
        """Name, arity and Python function of each function that can be called under ``module``, sorted."""
        found = {}
        for table in (*reversed(self._defaults), self):
            found.update({key: each.call for key, each in table._functions.items() if key[0] == module})
        return [(name, arity, found[_, name, arity]) for _, name, arity in sorted(found)]

    async def apply(
        self,
        me: LocalProcess,
        module: Atom,
        function: Atom,
        arguments: Sequence[Term],
        is_wanted: Callable[[], bool] | None = None,
    ) -> Term:
        """Run ``module:function(arguments)`` in the process ``me`` and return its value. None becomes the atom
        ``nil``.

        Raises :class:`Undef` if the function is not exposed, ``{overloaded, Text}`` as ErlangError if the function
        belongs in a thread and too many calls wait for one, and all that the function raises. ``is_wanted()`` is asked
        after a call has waited for a thread; if it is false, the function is not called and this raises ``Exit``.
        """
        exposed = self._find_or_raise(module, function, arguments)
        if exposed.in_thread and self._pool is not None:
            await ensure_task()
            try:
                outcome = _value(me, await self._pool.run(exposed.call, *arguments, is_wanted=is_wanted))
            except (PoolFull, NotWanted) as error:
                raise _error_for_caller(error) from None
        else:
            outcome = _call(me, exposed, arguments)
        return await outcome if type(outcome) is CoroutineType else outcome

    def start(
        self,
        me: LocalProcess,
        mfa: MFA,
        on_done: Callable[[Job], object],
        is_wanted: Callable[[], bool] | None = None,
    ) -> Outcome | Job:
        """Do the same as :meth:`apply`, as far as that needs no task. Return one of these:

        * the value;
        * a coroutine, which the process must await to get the value;
        * a Job. Then ``on_done(job)`` is called when the thread has finished, and :func:`value_of` returns the value.
          It may be called before this returns.
        """
        module, function, arguments = mfa
        exposed = self._find_or_raise(module, function, arguments)
        if exposed.in_thread and self._pool is not None:
            try:
                return self._pool.submit(exposed.call, arguments, on_done, is_wanted)
            except PoolFull as error:
                raise _error_for_caller(error) from None
        return _call(me, exposed, arguments)

    def _find_or_raise(self, module: Atom, function: Atom, arguments: Sequence[Term]) -> _ExposedFunction:
        exposed = self._find((module.name, function.name, len(arguments)))
        if exposed is None:
            stack: list[Term] = [(module, function, list(arguments), [])]
            raise Undef(Atom("undef"), stack, f"{module.name}:{function.name}/{len(arguments)}")
        return exposed


def value_of(me: LocalProcess, job: Job) -> Outcome:
    """Return the value of a finished call in a thread, or a coroutine for it, as :meth:`FunctionTable.start` does.

    Raises what :meth:`FunctionTable.apply` raises.
    """
    try:
        return _value(me, job.result())
    except (PoolFull, NotWanted) as error:
        raise _error_for_caller(error) from None


def _error_for_caller(error: PoolFull | NotWanted) -> ErlangError | Exit:
    return ErlangError((_OVERLOADED, str(error)), []) if isinstance(error, PoolFull) else Exit(NOPROC)


def _call(me: LocalProcess, exposed: _ExposedFunction, arguments: Sequence[Term]) -> Outcome:
    if exposed.is_coroutine:
        return _run_coroutine(me, exposed, arguments)
    return _value(me, exposed.call(me, *arguments) if exposed.takes_process else exposed.call(*arguments))


async def _run_coroutine(me: LocalProcess, exposed: _ExposedFunction, arguments: Sequence[Term]) -> Term:
    await ensure_task()  # A coroutine function may use asyncio before its first await.
    value = exposed.call(me, *arguments) if exposed.takes_process else exposed.call(*arguments)
    if type(value) is CoroutineType or inspect.isawaitable(value):
        value = await value if me.alive else await _result_of(me, value)
    return _NIL if value is None else value


def _value(me: LocalProcess, value: Any) -> Outcome:
    """Return what a function has returned as a term, or a coroutine that does so if it must be awaited."""
    if type(value) in _NEVER_AWAITABLE or not inspect.isawaitable(value):
        return _NIL if value is None else value
    return _result_of(me, value)


async def _result_of(me: LocalProcess, awaitable: Awaitable[Any]) -> Term:
    """Await what a function of the process ``me`` has returned. A process that has terminated awaits nothing."""
    if not me.alive:
        _close(awaitable)
        raise asyncio.CancelledError
    try:
        await ensure_task()
    except BaseException:  # an exit signal came before the task ran
        _close(awaitable)
        raise
    value = await awaitable
    return _NIL if value is None else value


def _close(awaitable: Awaitable[Any]) -> None:
    """Discard an awaitable that nobody awaits. A task is cancelled."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()
    elif isinstance(awaitable, asyncio.Future):
        awaitable.cancel()


PROCESS_WIDE: Final = FunctionTable()
"""The functions marked with :func:`expose`. They can be called on every node of this Python process."""


@overload
def expose(what: F, *, as_: str | None = None, name: str | None = None, inline: bool = False) -> F: ...
@overload
def expose(what: ModuleType, *, as_: str | None = None, inline: bool = False) -> ModuleType: ...
@overload
def expose(*, as_: str | None = None, name: str | None = None, inline: bool = False) -> Callable[[F], F]: ...
def expose(what: Any = None, *, as_: str | None = None, name: str | None = None, inline: bool = False) -> Any:
    """Expose a Python function to other nodes, as a decorator; or the functions of a module.

    ::

        @expose                                   # in mymodels.py: mymodels:predict/1
        def predict(image: bytes) -> float: ...

        @expose(as_="models", name="predict!")    # :models.predict!(image)
        async def predict_or_fail(me: Process, image: bytes) -> float: ...

        @expose(inline=True)                      # quick: runs in the event loop
        def version() -> int: ...

        expose(mypackage.models, as_="mymodels")  # its public functions

    ``as_`` is the module name in Erlang. The default is the last part of the Python module's name. ``name`` is the
    function's name in Erlang.

    Every call runs in a process of its own. A first parameter annotated ``Process`` gets this process. Where the
    function runs:

    * A coroutine function runs in the event loop, concurrently with all others. It must not block.
    * An ordinary function runs in a thread of the node, so it may block. It must be thread-safe, and must not use the
      node, a process or asyncio. Calls of one caller may overlap. At most ``expose_threads`` run at the same time.
      Further calls wait; beyond ``expose_queue_limit`` the caller gets the error ``{overloaded, Text}``.
    * An ordinary function runs in the event loop if it takes the process, or with ``inline=True``. Then it must return
      at once: nothing else on the node runs meanwhile.

    If the process of a call is killed, or its caller gives up, before a thread is free, the function is not called. A
    function that runs already is not interrupted; its result is dropped.

    The result must be a term; None becomes ``nil``. An exception becomes the Erlang error
    ``{'ValueError', <<"its text">>}``. :class:`erlmesh.Exit`, :class:`erlmesh.Throw` and :class:`erlmesh.ErlangError`
    become ``exit``, ``throw`` and ``error`` with any reason.

    The function is exposed on all nodes of this Python process. :meth:`erlmesh.Node.expose` exposes it on one node.
    """
    if what is None:
        return lambda function: expose(function, as_=as_, name=name, inline=inline)
    if isinstance(what, ModuleType):
        PROCESS_WIDE.add_module(what, as_, inline=inline)
    else:
        PROCESS_WIDE.add(what, as_ or _last_part(what.__module__), name, inline=inline)
        setattr(what, _MARK, (as_, name, inline))
    return what


def _parameters_of(function: Callable[..., Any]) -> tuple[bool, range]:
    """Return whether the first parameter takes the process, and the range of arities.

    A parameter with a default and a leading underscore is not for callers. It ends the range, because an argument for
    one of the parameters behind it would need one for it.
    """
    if not callable(function):
        raise TypeError(f"only functions can be exposed, not {function!r}")
    parameters = list(inspect.signature(function).parameters.values())
    takes_process = bool(parameters) and is_process_annotation(parameters[0].annotation)
    minimum = maximum = 0
    for parameter in parameters[takes_process:]:
        required = parameter.default is parameter.empty
        if parameter.name.startswith("_") and not required and parameter.kind is not parameter.KEYWORD_ONLY:
            break
        if parameter.kind is parameter.VAR_POSITIONAL:
            maximum = MAX_ARITY
        elif parameter.kind is parameter.KEYWORD_ONLY and required:
            raise TypeError(f"{function!r} requires the keyword argument {parameter.name!r}, which Erlang cannot pass")
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            maximum += maximum < MAX_ARITY
            minimum += required
    return takes_process, range(minimum, maximum + 1)


def is_process_annotation(annotation: Any) -> bool:
    """True for the class ``Process`` or its name: annotations are text with ``from __future__ import annotations``."""
    if isinstance(annotation, str):
        return annotation.strip("'\"").rpartition(".")[2] in ("Process", "LocalProcess")
    return isinstance(annotation, type) and issubclass(annotation, LocalProcess)


def _functions_of(module: ModuleType) -> Iterator[Callable[..., Any]]:
    """The public functions that the module itself defines, and the marked ones."""
    exported = getattr(module, "__all__", None)
    for name, value in vars(module).items():
        is_public = name in exported if exported is not None else not name.startswith("_")
        is_marked = inspect.isfunction(value) and hasattr(value, _MARK)
        if (is_public or is_marked) and inspect.isfunction(value) and value.__module__ == module.__name__:
            yield value


def _is_same_function(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """True also for a newer version of the function, which a reload or a notebook cell makes."""
    return one is other or all(
        getattr(one, part, one) == getattr(other, part, other) for part in ("__module__", "__qualname__")
    )


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]
