"""Tensors of Nx as NumPy arrays, and back."""

import sys

import pytest

from erlmesh import Atom, Map
from erlmesh.etf import decode, encode
from erlmesh.servings.tensors import Template, from_wire, to_wire
from skips import import_or_skip

numpy = import_or_skip("numpy")
STRUCT, DATA, STATE, TYPE, SHAPE, NAMES, AXES, DONATABLE, NIL = map(
    Atom, ("__struct__", "data", "state", "type", "shape", "names", "vectorized_axes", "donatable?", "nil")
)
BINARY, TENSOR = Atom("Elixir.Nx.BinaryBackend"), Atom("Elixir.Nx.Tensor")


def tensor(data, kind="f", bits=32, shape=(2,), backend=BINARY, **more):
    return Map(
        {
            STRUCT: TENSOR,
            DATA: Map({STRUCT: backend, STATE: data}),
            TYPE: (Atom(kind), bits),
            SHAPE: shape,
            NAMES: [NIL] * len(shape),
            AXES: [],
            **{Atom(name): value for name, value in more.items()},
        }
    )


@pytest.mark.parametrize(
    "dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "c8", "c16"], ids=str
)
def test_each_type_comes_back_as_it_was(dtype):
    array = numpy.arange(6).astype(dtype).reshape(2, 3)

    sent = decode(encode(to_wire(array, Template())))
    back = from_wire(sent, Template())

    assert back.dtype == array.dtype
    assert back.tolist() == array.tolist()
    assert sent[SHAPE] == (2, 3)
    assert sent[NAMES] == [NIL, NIL]


def test_an_array_shares_the_memory_of_the_received_binary():
    data = numpy.arange(2, dtype="<f4").tobytes()

    array = from_wire(tensor(data), Template())

    assert array.tolist() == [0.0, 1.0]
    assert not array.flags.writeable
    assert numpy.shares_memory(array, numpy.frombuffer(data, "u1"))


def test_a_tensor_has_exactly_the_fields_of_the_callers_version():
    data = b"\0" * 8
    new, old = tensor(data, **{"donatable?": True}), Map({k: v for k, v in tensor(data).items() if k is not AXES})

    for given, expected in ((new, {AXES: [], DONATABLE: False}), (old, {})):
        template = Template()
        array = from_wire((Atom("x"), [given]), template)[1][0]
        sent = to_wire(array, template)
        assert set(sent) == {STRUCT, DATA, TYPE, SHAPE, NAMES, *expected}
        assert {key: sent[key] for key in expected} == expected


def test_without_a_tensor_of_the_caller_the_fields_are_those_of_released_versions():
    assert set(to_wire(numpy.zeros(1), Template())) == {STRUCT, DATA, TYPE, SHAPE, NAMES, AXES}


def test_tensors_within_containers_are_read_and_others_stay():
    given = Map({Atom("a"): [tensor(b"\1\2", "u", 8)], Atom("b"): (1, b"text")})

    found = from_wire(given, Template())

    assert found[Atom("a")][0].tolist() == [1, 2]
    assert found[Atom("b")] == (1, b"text")
    assert from_wire([1.0, 2.0], Template()) == [1.0, 2.0]


def test_outputs_in_containers_and_scalars_are_written():
    output = {"scores": [numpy.float32(0.5)], "label": (numpy.int64(3), numpy.bool_(True)), "array": numpy.ones(1)}

    sent = to_wire(output, Template())

    assert (sent["scores"], sent["label"]) == ([0.5], (3, True))
    assert sent["array"][STRUCT] is TENSOR
    assert to_wire([numpy.ones(1)], Template())[0][SHAPE] == (1,)


def test_arrays_of_another_order_or_layout_are_written_little_endian_by_rows():
    big = numpy.arange(6, dtype=">i4").reshape(2, 3).T

    sent = to_wire(big, Template())

    assert sent[DATA][STATE] == numpy.array([0, 3, 1, 4, 2, 5], "<i4").tobytes()
    assert to_wire(numpy.array([True]), Template())[TYPE] == (Atom("u"), 8)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (tensor(b"\0" * 8, backend=Atom("Elixir.EXLA.Backend")), "EXLA.Backend, which another node cannot read: copy"),
        (tensor(b"\0" * 7), "has 7 bytes of data, not 2 elements"),
        (tensor(b"\0" * 8, shape=(-1, -2)), "malformed"),
        (tensor(b"\0" * 8, shape=(1,) * 33), "malformed"),
        (tensor(b"\0" * 8, shape=(10**15,)), "bytes of data"),
        # The product of these sizes takes longer than the time limit of the test.
        (tensor(b"\0" * 8, shape=(1 << 32_000_000,) * 2), "malformed"),
        (tensor(b"\0" * 8, "f", 1 << 16_000_000), "NumPy has no type for tensors of type this form"),
        (tensor(b"\0" * 8, **{f"field {i}": False for i in range(9)}), "no version of Nx has"),
        (tensor(b"\0" * 8, field=b"of any size"), "no version of Nx has"),
        (tensor(b"\0" * 8, "f", 8), "NumPy has no type"),
        (tensor(b"\0" * 8, "s", 4), "NumPy has no type"),
        (tensor(b"\0" * 8).__class__({**tensor(b"\0" * 8), AXES: [(Atom("x"), 2)]}), "Nx.devectorize"),
        (Map({STRUCT: TENSOR}), "cannot read"),
        (Map({STRUCT: Atom("Elixir.Nx.Batch")}), "functions of Elixir"),
    ],
    ids=[
        *("backend", "size", "negative", "rank", "huge", "product", "bits", "fields", "field"),
        *("f8", "s4", "axes", "empty", "batch"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(given, text):
    with pytest.raises(ValueError, match=text):
        from_wire([given], Template())


def test_bf16_needs_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)

    with pytest.raises(ValueError, match="install ml_dtypes there, or send f32"):
        from_wire(tensor(b"\0\0\x80\x3f", "bf", 16), Template())


def test_without_numpy_a_tensor_is_refused_in_words(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)

    with pytest.raises(ValueError, match=r"install NumPy there, pip install 'erlmesh\[numpy\]'"):
        from_wire(tensor(b"\0" * 8), Template())
    assert to_wire([1], Template()) == [1]


def test_an_array_of_a_type_that_nx_does_not_have_is_refused_in_words():
    with pytest.raises(ValueError, match="convert it with astype"):
        to_wire(numpy.array(["text"]), Template())
