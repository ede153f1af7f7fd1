"""Hypothesis strategies that generate random terms."""

import math

from hypothesis import strategies as st

from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref

u8, u32 = st.integers(0, 255), st.integers(0, 2**32 - 1)
scalar_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
atoms = st.builds(
    Atom, st.sampled_from(["ok", "nil", "undefined", "Elixir.Foo", "a@127.0.0.1", "", "end"]) | scalar_text
)
# without true and false, which are received as bools
names = atoms.filter(lambda atom: atom.name not in ("true", "false"))
nodes = st.builds(Atom, st.sampled_from(["a@127.0.0.1", "b@127.0.0.1", "ab@host", "é@host"]))
pids = st.builds(Pid, nodes, u32, u32, u32)
ports = st.builds(Port, nodes, st.integers(0, 2**64 - 1) | st.integers(2**28 - 2, 2**28 + 2), u32)
refs = st.builds(Ref, nodes, u32, st.lists(u32, min_size=3, max_size=3).map(tuple))
exports = st.builds(Export, names, names, u8)
integers = (
    st.integers()
    | u8
    | st.sampled_from([s * 2**b + d for s in (1, -1) for b in (7, 8, 31, 32, 59, 60, 63, 64, 2040) for d in (-1, 0, 1)])
)
# Tests that compare keys with OTP before 27 exclude -0.0: for those releases -0.0 and 0.0 are the same key.
floats = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def bitstrings(draw):
    data, bits = draw(st.binary(min_size=1, max_size=6)), draw(st.integers(1, 7))
    return BitString(data[:-1] + bytes([data[-1] & (0xFF00 >> bits)]), bits)


_leaves = st.one_of(
    names,
    st.booleans(),
    integers,
    floats,
    st.binary(max_size=12),
    scalar_text.map(str.encode),
    bitstrings(),
    pids,
    ports,
    refs,
    exports,
)


@st.composite  # so that hypothesis prints a short name for it
def _any_leaf(draw):
    return draw(_leaves)


leaves = _any_leaf()


def containers(inner):
    small = st.lists(inner, max_size=5)
    return st.one_of(
        small.map(tuple),
        small,
        st.lists(u8, max_size=8),
        st.builds(
            ImproperList,
            st.lists(inner, min_size=1, max_size=4).map(tuple),
            inner.filter(lambda tail: not isinstance(tail, (list, ImproperList))),
        ),
        st.lists(st.tuples(inner, inner), max_size=5).map(Map),
        st.builds(
            Fun,
            u8,
            st.binary(min_size=16, max_size=16),
            st.integers(0, 2**31 - 1),  # OTP compares them as signed numbers
            names,
            st.integers(0, 2**31 - 1),
            st.integers(0, 2**27 - 1),
            pids,
            st.lists(inner, max_size=3).map(tuple),
        ),
    )


terms = st.recursive(leaves, containers, max_leaves=20)


def has_negative_zero(term):
    match term:
        case float():
            return term == 0 and math.copysign(1, term) < 0
        case tuple() | list():
            return any(map(has_negative_zero, term))
        case ImproperList():
            return any(map(has_negative_zero, (*term.elements, term.tail)))
        case Map():
            return any(has_negative_zero(part) for pair in term.items() for part in pair)
        case Fun():
            return any(map(has_negative_zero, term.free))
    return False
