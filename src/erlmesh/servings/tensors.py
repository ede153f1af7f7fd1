"""Tensors of Nx as NumPy arrays (nx: lib/nx/tensor.ex, lib/nx/binary_backend.ex).

::

    #{'__struct__' => 'Elixir.Nx.Tensor',
      data => #{'__struct__' => 'Elixir.Nx.BinaryBackend', state => Binary},   little-endian, row-major
      type => {f | bf | s | u | c, Bits},
      shape => {2, 3},
      names => [nil, nil],
      vectorized_axes => []}                                                   since Nx 0.6

A version of Nx accepts a struct with exactly its own fields. So a tensor that leaves has the fields of that which came.
NumPy is imported for the first tensor that comes. An array that the function returns shows that it is there.
"""

from __future__ import annotations

import sys
from importlib import import_module
from math import prod
from typing import Any, Final, TypeGuard

from erlmesh.terms import Atom, Map, Term

__all__ = ["Template", "from_wire", "to_wire"]

STRUCT: Final = Atom("__struct__")
TENSOR: Final = Atom("Elixir.Nx.Tensor")
BINARY_BACKEND: Final = Atom("Elixir.Nx.BinaryBackend")
BATCH: Final = Atom("Elixir.Nx.Batch")
DATA, STATE, TYPE, SHAPE, NAMES, VECTORIZED_AXES, NIL = map(
    Atom, ("data", "state", "type", "shape", "names", "vectorized_axes", "nil")
)
MAX_RANK: Final = 32
"""Axes of a tensor. NumPy 1 has this limit."""
MAX_SIZE: Final = 2**63 - 1
"""The size of an axis. The product of larger numbers, which need no data at all, takes seconds."""
MAX_BITS: Final = 1024
"""Bits of an element that an error names."""
MAX_EXTRA: Final = 8
"""Further fields of a tensor. Released versions of Nx have one."""
MAX_DEPTH: Final = 16
"""Containers around a tensor. What is deeper stays as it is."""

# The names of NumPy's types, by Nx's kind and bits. `bf16` is a type of the package ml_dtypes.
_DTYPES: Final = {
    **{("f", bits): f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{(kind, bits): f"<{code}{bits // 8}" for kind, code in (("s", "i"), ("u", "u")) for bits in (8, 16, 32, 64)},
    **{("c", bits): f"<c{bits // 8}" for bits in (64, 128)},
}
_KINDS: Final = {"f": "f", "i": "s", "u": "u", "c": "c"}


class Template:
    """What the first tensor of an input says about the caller's version of Nx."""

    __slots__ = ("extra",)

    def __init__(self) -> None:
        self.extra: dict[Term, Term] = {VECTORIZED_AXES: []}
        """The fields beside data, type, shape and names, with the values that a new tensor has."""

    def learn(self, tensor: Map) -> None:
        """Take the fields of a tensor that came."""
        known = (STRUCT, DATA, TYPE, SHAPE, NAMES)
        extra = {key: _default_of(value) for key, value in tensor.items() if key not in known}
        # Each tensor of the output has a copy of them, so they must be small.
        if len(extra) > MAX_EXTRA or not all(type(value) in (list, bool, Atom) for value in extra.values()):
            raise ValueError("this is not a tensor of Nx: it has fields that no version of Nx has")
        self.extra = extra


def _default_of(value: Term) -> Term:
    """`vectorized_axes` is a list, `donatable?` a boolean. A new tensor has neither axes nor a donor."""
    return [] if type(value) is list else False if type(value) is bool else value


def from_wire(term: Term, template: Template, depth: int = MAX_DEPTH) -> Any:
    """Return ``term`` with a read-only array in place of each tensor, without a copy. Raises ValueError."""
    kind = type(term)
    if kind is Map:
        struct = term.get(STRUCT)
        if struct is TENSOR:
            template.learn(term)
            return _array(term)
        if struct is BATCH:
            raise ValueError(
                "an Nx.Batch holds functions of Elixir, which cannot run here: send the tensors themselves, for "
                "example with the third argument of Nx.Serving.batched_run"
            )
        if depth and any(_may_hold_tensor(value) for value in term.values()):
            return Map([(key, from_wire(value, template, depth - 1)) for key, value in term.items()])
    elif (kind is list or kind is tuple) and depth and any(_may_hold_tensor(value) for value in term):
        return kind([from_wire(value, template, depth - 1) for value in term])
    return term


def _may_hold_tensor(term: Term) -> bool:
    return type(term) in (Map, list, tuple)


def _array(tensor: Map) -> Any:
    data, shape = tensor.get(DATA), tensor.get(SHAPE)
    backend = data.get(STRUCT) if isinstance(data, Map) else None
    if not isinstance(data, Map) or backend is not BINARY_BACKEND:
        raise ValueError(
            f"the data of a tensor is in {_module_name(backend)}, which another node cannot read: copy it first, with "
            "Nx.backend_copy(tensor, Nx.BinaryBackend)"
        )
    if tensor.get(VECTORIZED_AXES, []) != []:
        raise ValueError("a tensor has vectorized axes: call Nx.devectorize(tensor) first")
    state = data.get(STATE)
    if not _is_shape(shape) or not isinstance(state, bytes):
        raise ValueError("this is not a tensor of Nx: its shape or its data are malformed")
    numpy = _numpy()
    dtype = _dtype(numpy, tensor.get(TYPE))
    if prod(shape) * dtype.itemsize != len(state):
        raise ValueError(f"a tensor of shape {shape} has {len(state)} bytes of data, not {prod(shape)} elements")
    return numpy.frombuffer(state, dtype).reshape(shape)


def _module_name(backend: Term) -> str:
    return backend.name.removeprefix("Elixir.")[:100] if isinstance(backend, Atom) else "an unknown backend"


def _is_shape(shape: Term) -> TypeGuard[tuple[int, ...]]:
    return (
        isinstance(shape, tuple)
        and len(shape) <= MAX_RANK
        and all(type(size) is int and 0 <= size <= MAX_SIZE for size in shape)
    )


def _numpy() -> Any:
    try:
        return import_module("numpy")
    except ImportError:
        raise ValueError("this node cannot read tensors: install NumPy there, pip install 'erlmesh[numpy]'") from None


def _dtype(numpy: Any, nx_type: Term) -> Any:
    match nx_type:
        case (Atom("bf"), 16):
            try:
                return numpy.dtype(import_module("ml_dtypes").bfloat16)
            except ImportError:
                raise ValueError(
                    "this node cannot read tensors of type bf16: install ml_dtypes there, or send f32"
                ) from None
        case (Atom() as kind, int() as bits) if (kind.name, bits) in _DTYPES:
            return numpy.dtype(_DTYPES[kind.name, bits])
        case (Atom() as kind, int() as bits) if 0 <= bits <= MAX_BITS:
            text = f"{{{kind.name[:100]},{bits}}}"
        case _:  # Any term, of any length.
            text = "this form"
    raise ValueError(f"NumPy has no type for tensors of type {text}: send f32 or s32, for example")


def to_wire(value: Any, template: Template) -> Any:
    """Return ``value`` with a tensor in place of each array, and a number in place of each NumPy scalar.

    The elements are copied once. Raises ValueError for an array of a type that Nx does not have.
    """
    numpy = sys.modules.get("numpy")
    return value if numpy is None else _to_wire(numpy, value, template, MAX_DEPTH)


def _to_wire(numpy: Any, value: Any, template: Template, depth: int) -> Any:
    kind = type(value)
    if kind is list or kind is tuple:
        # A list of floats is the most frequent output, and has no arrays in it.
        if not depth or not value or type(value[0]) in (float, int, bytes, str):
            return value
        return kind([_to_wire(numpy, each, template, depth - 1) for each in value])
    if kind is dict or kind is Map:
        return kind([(key, _to_wire(numpy, each, template, depth - 1)) for key, each in value.items()])
    if isinstance(value, numpy.ndarray):
        return _tensor(value, template)
    if isinstance(value, numpy.generic):
        return value.item()
    return value


def _tensor(array: Any, template: Template) -> Map:
    kind, bits = _KINDS.get(array.dtype.kind), array.dtype.itemsize * 8
    if array.dtype.kind == "b":
        kind = "u"  # Nx has no booleans: its comparisons return u8.
    if array.dtype.name == "bfloat16":
        kind = "bf"
    elif (kind, bits) not in _DTYPES:
        raise ValueError(f"Nx has no type for a NumPy array of {array.dtype}: convert it with astype")
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and sys.byteorder == "big"):
        array = array.astype(array.dtype.newbyteorder("<"))
    assert kind is not None
    return Map(
        {
            STRUCT: TENSOR,
            DATA: Map({STRUCT: BINARY_BACKEND, STATE: array.tobytes()}),
            TYPE: (Atom(kind), bits),
            SHAPE: tuple(array.shape),
            NAMES: [NIL] * array.ndim,
            **template.extra,
        }
    )
