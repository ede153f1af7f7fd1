"""An Elixir exception as a Python exception."""

from __future__ import annotations

from erlmesh.terms import Map
from erlmesh.terms.elixir_exceptions import exception_line, exception_message, exception_module, is_exception

__all__ = ["ElixirException"]


class ElixirException(Exception):
    """An Elixir exception, for example ``%ArgumentError{message: "bad"}``.

    ``term`` is the struct, ``module`` its name without ``Elixir.``, ``message`` the text. As text it is one line, as
    Elixir prints it: ``** (ArgumentError) bad``. Raises ValueError if the term is not an exception.
    """

    def __init__(self, term: Map) -> None:
        if not is_exception(term):
            raise ValueError("it is not an Elixir exception: a struct with the field __exception__")
        super().__init__(term)
        self.term = term
        self.module = exception_module(term)
        self.message = exception_message(term)

    def __str__(self) -> str:
        return exception_line(self.term)
