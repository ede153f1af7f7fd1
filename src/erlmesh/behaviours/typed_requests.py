"""Requests as objects of classes that the annotation of a handler names.

::

    def handle_call(self, request: Deposit | Withdraw, caller): …

    {deposit, 5}     Deposit(5): the name in snake case, and the fields in order
    ping             Ping(), a class without fields
    %Bank.Deposit{}  the class that :func:`erlmesh.elixir_struct` or its tag gives that struct
    anything else    is unknown, and the handler is not called

The classes are dataclasses, ``msgspec.Struct`` or NamedTuple. The fields of a struct are converted and checked by
:func:`erlmesh.from_term`. The values in a tuple are terms and are not checked. A class that refuses its values with
ValueError or TypeError makes the request unknown.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from functools import lru_cache
from inspect import ismethod, signature, unwrap
from itertools import islice
from typing import Any, Union, get_args, get_origin, get_type_hints

from erlmesh.net.event_log import event_log
from erlmesh.terms import Atom, Map, Term
from erlmesh.terms.foreign_text import ForeignText
from erlmesh.typed.convert_error import ConvertError
from erlmesh.typed.from_terms import from_term
from erlmesh.typed.structs import STRUCT, struct_options

__all__ = ["typed"]

log = event_log("erlmesh.gen_server")

WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""The places between two words of the name of a class."""


def typed(method: Callable[..., Any], otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``method`` itself, or a function that makes its first argument from a term if its annotation says so.

    That function calls ``otherwise`` with the term if it fits no class.
    """
    classes = _classes_by_tag(getattr(method, "__func__", method), int(ismethod(method)))
    if not classes:
        return method

    def handle(request: Term, *rest: Any) -> Any:
        made = _make(classes, request)
        return otherwise(request, *rest) if made is None else method(made, *rest)

    handle.__dict__.update(getattr(method, "__dict__", {}))  # the mark of @blocking
    return handle


def _make(classes: dict[Atom, type], request: Term) -> Any:
    """The object that the request stands for, or None."""
    if isinstance(request, Map):
        return _make_from_struct(classes, request)
    tag, *values = request if type(request) is tuple and request else (request,)
    found = classes.get(tag) if isinstance(tag, Atom) else None
    if found is None or struct_options(found) is not None:
        return None
    try:
        return found(*values)
    except (TypeError, ValueError):
        return None


def _make_from_struct(classes: dict[Atom, type], request: Map) -> Any:
    name = request.get(STRUCT)
    found = classes.get(name) if isinstance(name, Atom) else None
    if found is None:
        return None
    try:
        return from_term(request, found)
    except ConvertError as error:
        log.warning(
            "request_invalid", "the request is not a %s: %s", found.__qualname__, ForeignText(error), reason=error
        )
        return None


@lru_cache(maxsize=1024)  # It takes as long as the start of a server.
def _classes_by_tag(function: Callable[..., Any], position: int) -> dict[Atom, type]:
    """The classes in the annotation of a parameter; none if the annotation has anything else in it."""
    parameter = next(islice(signature(function).parameters.values(), position, None), None)
    if parameter is None or parameter.annotation is parameter.empty:
        return {}
    try:
        annotation = _evaluated(parameter.annotation, function)
    except NameError:  # A name that only type checkers see. It is no class that could be made here.
        return {}
    parts = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return {_key(each): each for each in parts} if all(map(_is_request_class, parts)) else {}


def _evaluated(annotation: Any, function: Any) -> Any:
    """Return an annotation without quotes. The other annotations of the function may be unknown at run time."""
    holder = types.SimpleNamespace(__annotations__={"request": annotation})
    return get_type_hints(holder, globalns=getattr(unwrap(function), "__globals__", {}))["request"]


def _is_request_class(annotation: Any) -> bool:
    return isinstance(annotation, type) and any(
        hasattr(annotation, mark) for mark in ("__dataclass_fields__", "__struct_fields__", "_fields")
    )


def _key(request_class: type) -> Atom:
    """The name of the struct that the class stands for, or the tag of its tuple."""
    options = struct_options(request_class)
    return _tag(request_class) if options is None else options.module


def _tag(request_class: type) -> Atom:
    """``MoveMoney`` → ``move_money``, ``GetURLOf`` → ``get_url_of``, as ``Macro.underscore`` of Elixir does."""
    return Atom(WORD_START.sub("_", request_class.__name__).lower())
