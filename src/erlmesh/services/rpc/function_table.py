"""The functions that other nodes may call here, and no others: a table, filled by :func:`expose` and ``node.expose``.

What arrives from outside is looked up in the table by module, function and number of arguments. Nothing is imported,
no attribute is read and nothing is evaluated because of a name on the wire.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, overload

from erlmesh.errors import Undef
from erlmesh.runtime.spawner import ensure_task
from erlmesh.terms import Atom, Term

if TYPE_CHECKING:
    from erlmesh.runtime.process import Process

__all__ = ["PROCESS_WIDE", "FunctionTable", "expose"]

F = TypeVar("F", bound=Callable[..., Any])

MAX_ARITY: Final = 255
_NIL: Final = Atom("nil")
_MARK: Final = "__erlmesh_exposed__"

FunctionKey: TypeAlias = tuple[str, str, int]
"""Module, function, number of arguments."""


@dataclass(frozen=True, slots=True)
class _ExposedFunction:
    call: Callable[..., Any]
    takes_process: bool
    is_coroutine: bool
    """A coroutine function: its process needs a task."""


class FunctionTable:
    """A table of functions. ``defaults`` is asked for what is not in it."""

    def __init__(self, *defaults: FunctionTable) -> None:
        self._functions: dict[FunctionKey, _ExposedFunction] = {}
        self._defaults = defaults

    def add(self, function: Callable[..., Any], module: str, name: str | None = None) -> None:
        """Lets others call ``module:name``, for each number of arguments that ``function`` takes.

        A first parameter annotated ``Process`` is not counted: it is given the process the call runs in. Raises
        ``TypeError`` for what cannot be called with positional arguments, ``ValueError`` for a name that another
        function has.
        """
        Atom(module), Atom(name := name or function.__name__)
        wants_process, arities = _parameters_of(function)
        exposed = _ExposedFunction(function, wants_process, inspect.iscoroutinefunction(function))
        for arity in arities:
            taken = self._functions.get((module, name, arity))
            if taken is not None and not _is_same_function(taken.call, function):
                raise ValueError(f"{module}:{name}/{arity} is taken by {taken.call!r}; give {function!r} another name")
            self._functions[module, name, arity] = exposed

    def add_module(self, module: ModuleType, as_: str | None = None) -> None:
        """Lets others call the functions of a Python module as ``as_``, or else by the last part of the module's name.

        Those marked with :func:`expose` if there are any, else all public ones that are defined in it (in ``__all__``,
        or without an underscore in front). A module with a table of its own, ``EXPOSED``, has that taken over. Raises
        ``ValueError`` for a module that offers nothing.
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
            named, name = getattr(function, _MARK, (None, None))
            self.add(function, as_ or named or _last_part(module.__name__), name)

    def find(self, module: Atom, function: Atom, arity: int) -> _ExposedFunction | None:
        """The function, or None."""
        found = self._functions.get((module.name, function.name, arity))
        if found is None:
            for table in self._defaults:
                found = found or table.find(module, function, arity)
        return found

    def names(self) -> list[FunctionKey]:
        """What can be called, in order."""
        return sorted({key for table in (self, *self._defaults) for key in table._functions})

    async def apply(self, me: Process, module: Atom, function: Atom, arguments: Sequence[Term]) -> Term:
        """The value of ``module:function(arguments)``, run in the process ``me``. None becomes the atom ``nil``.

        Raises :class:`Undef` if there is no such function here, and whatever the function raises.
        """
        exposed = self.find(module, function, len(arguments))
        if exposed is None:
            stack: list[Term] = [(module, function, list(arguments), [])]
            raise Undef(Atom("undef"), stack, f"{module.name}:{function.name}/{len(arguments)}")
        if exposed.is_coroutine:
            await ensure_task()
        value = exposed.call(me, *arguments) if exposed.takes_process else exposed.call(*arguments)
        if inspect.isawaitable(value):
            await ensure_task()
            value = await value
        return _NIL if value is None else value


PROCESS_WIDE: Final = FunctionTable()
"""What :func:`expose` has marked: callable on every node of this Python process."""


@overload
def expose(what: F, *, as_: str | None = None, name: str | None = None) -> F: ...
@overload
def expose(what: ModuleType, *, as_: str | None = None) -> ModuleType: ...
@overload
def expose(*, as_: str | None = None, name: str | None = None) -> Callable[[F], F]: ...
def expose(what: Any = None, *, as_: str | None = None, name: str | None = None) -> Any:
    """Makes a Python function callable from other nodes: as a decorator, or on a whole module. ::

        @expose                                   # in mymodels.py: mymodels:predict/1
        def predict(image: bytes) -> float: ...

        @expose(as_="models", name="predict!")    # :models.predict!(image)
        async def predict_or_fail(me: Process, image: bytes) -> float: ...

        expose(mypackage.models, as_="mymodels")  # its public functions

    ``as_`` is the module others see, else the last part of the Python module's name; ``name`` is the function's. Every
    call runs in a process of its own, which is handed to a first parameter annotated ``Process``. Coroutine functions
    run beside each other; an ordinary function holds up the whole node while it computes, so let what takes long be
    ``await asyncio.to_thread(...)``. The result must be a term; None becomes ``nil``. An exception is an Erlang error
    ``{'ValueError', <<"its text">>}`` for the caller; :class:`erlmesh.Exit`, :class:`erlmesh.Throw` and
    :class:`erlmesh.ErlangError` are ``exit``, ``throw`` and ``error`` with any reason.

    All nodes of this Python process offer what is marked so; :meth:`erlmesh.Node.expose` is for one node alone.
    """
    if what is None:
        return lambda function: expose(function, as_=as_, name=name)
    if isinstance(what, ModuleType):
        PROCESS_WIDE.add_module(what, as_)
    else:
        PROCESS_WIDE.add(what, as_ or _last_part(what.__module__), name)
        setattr(what, _MARK, (as_, name))
    return what


def _parameters_of(function: Callable[..., Any]) -> tuple[bool, range]:
    if not callable(function):
        raise TypeError(f"only functions can be exposed, not {function!r}")
    parameters = list(inspect.signature(function).parameters.values())
    wants_process = bool(parameters) and _is_process(parameters[0].annotation)
    least = most = 0
    for parameter in parameters[wants_process:]:
        required = parameter.default is parameter.empty
        if parameter.kind is parameter.VAR_POSITIONAL:
            most = MAX_ARITY
        elif parameter.kind is parameter.KEYWORD_ONLY and required:
            raise TypeError(f"{function!r} demands the keyword {parameter.name!r}, which Erlang cannot give")
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            most += most < MAX_ARITY
            least += required
    return wants_process, range(least, most + 1)


def _is_process(annotation: Any) -> bool:
    """Also as text, which annotations are with ``from __future__ import annotations``."""
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__qualname__", "")
    of_erlmesh = isinstance(annotation, str) or annotation.__module__ == "erlmesh.runtime.process"
    return of_erlmesh and name.strip("'\"").rpartition(".")[2] == "Process"


def _functions_of(module: ModuleType) -> Iterator[Callable[..., Any]]:
    listed = getattr(module, "__all__", None)
    for name, value in vars(module).items():
        wanted = name in listed if listed is not None else not name.startswith("_")
        marked = inspect.isfunction(value) and hasattr(value, _MARK)
        if (wanted or marked) and inspect.isfunction(value) and value.__module__ == module.__name__:
            yield value


def _is_same_function(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Also a newer edition of it, as a reload or a notebook's cell makes."""
    return one is other or all(
        getattr(one, part, one) == getattr(other, part, other) for part in ("__module__", "__qualname__")
    )


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]
