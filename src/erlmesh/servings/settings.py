"""What a serving is made of. :func:`erlmesh.serving` says what each option means."""

from __future__ import annotations

import inspect

from erlmesh.records import record
from erlmesh.servings.runners import Function, is_streaming
from erlmesh.terms import Atom

__all__ = ["ServingSettings", "serving_name"]


def serving_name(name: Atom | str) -> Atom:
    """Return the atom of a name. A text that begins with a capital letter is an Elixir module: ``MyApp.Embeddings``."""
    text = str(name.name if isinstance(name, Atom) else name)
    return Atom(f"Elixir.{text}" if isinstance(name, str) and text[:1].isupper() and text[:7] != "Elixir." else text)


@record(frozen=True, eq=False)
class ServingSettings:
    """Raises ValueError and TypeError for options that do not fit."""

    function: Function
    name: Atom
    module: str
    """The module name in Erlang under which the function is exposed."""
    batch_size: int
    wait: float
    limit: int
    byte_limit: int
    threads: int
    processes: int
    time_limit: float | None
    nx: bool
    weight: int

    def __post_init__(self) -> None:
        function = self.function
        if not callable(function):
            raise TypeError(f"a serving needs a function of a list of inputs, not {function!r}")
        if min(self.batch_size, self.limit, self.byte_limit, self.threads, self.weight) < 1 or self.processes < 0:
            raise ValueError("batch_size, limit, byte_limit, threads and weight are 1 or more, and processes 0 or more")
        if self.wait < 0 or (self.time_limit is not None and self.time_limit <= 0):
            raise ValueError("wait is 0 or more seconds, and time_limit more than 0")
        if self.processes and (is_streaming(function) or inspect.iscoroutinefunction(function)):
            raise ValueError(
                "with processes=N the function is a plain one: a generator or a coroutine cannot leave its process. "
                "Use threads=N"
            )
        if self.processes and "<" in function.__qualname__:
            raise ValueError(
                f"with processes=N the function is defined at the top level of a module, where the workers find it, "
                f"not as {function.__qualname__}"
            )
