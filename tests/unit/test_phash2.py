"""phash2: values of real OTP for each kind of term. ``tests/otp/test_phash2_otp.py`` compares random terms."""

import pytest

from erlmesh.core.phash2 import phash2
from erlmesh.terms import Atom, BitString, Export, ImproperList, Map, Pid, Port, Ref

N = Atom("a@host")
KNOWN = [
    (b"lobby", 8249997),
    (b"room:1", 23597065),
    (b"", 13708901),
    (b"twelve bytes", 93359736),
    (b"thirteen byte", 33196846),
    (bytes(range(256)), 3064723),
    (0, 88723725),
    (-1, 44071773),
    (134217727, 112602999),
    (134217728, 12354923),
    (-134217729, 76739502),
    (10**40, 102362324),
    (-(10**40), 19001854),
    (0.0, 20875736),
    (-0.0, 20875736),
    (1.5, 10380315),
    (Atom("ok"), 1883),
    (Atom(""), 0),
    (Atom("žluťoučký"), 126128989),
    (Atom("é"), 233),
    (True, 506293),
    (False, 7111573),
    ([], 113427502),
    ([1], 84609158),
    ([1, 2, 3, 4, 5], 66056394),
    ([1, -1, 2, 256, 3], 43517045),
    ([[], [[]]], 128532175),
    (ImproperList((1, 2), 3), 8851781),
    (ImproperList((b"x",), 3), 117056221),
    ((), 87486268),
    ((1,), 110528523),
    ((Atom("a"), b"b", [3.5]), 83899218),
    (Map(), 39679005),
    (Map({1: 2, 3: 4}), 101230890),
    (Map({Map({1: 2}): Map({b"k": []})}), 97196659),
    ([Map({1: 1}), Map({2: 2})], 119008486),
    (Map([(n, -n) for n in range(40)]), 71302086),
    (BitString(b"ab\xc0", 3), 87593763),
    (BitString(b"\x80", 1), 102233125),
    (Pid(N, 5, 7, 9), 131498469),
    (Port(N, 2**40 + 9, 3), 119562313),
    (Ref(N, 1, (4, 5, 6)), 90543893),
]


@pytest.mark.parametrize(("term", "value"), KNOWN, ids=[str(index) for index in range(len(KNOWN))])
def test_value_is_that_of_otp(term, value):
    assert phash2(term) == value


def test_str_and_dict_count_as_binary_and_map():
    assert phash2("lobby") == phash2(b"lobby")
    assert phash2({"a": [1, "b"]}) == phash2(Map({b"a": [1, b"b"]}))


def test_range():
    assert phash2(b"lobby", 8) == 5
    assert phash2(b"lobby", 1) == 0
    assert phash2(b"lobby", 1 << 32) % (1 << 27) == phash2(b"lobby")
    for wrong in (0, -1, (1 << 32) + 1):
        with pytest.raises(ValueError, match="range"):
            phash2(b"lobby", wrong)


def test_fun_and_value_that_is_no_term_are_refused():
    for wrong in (Export(Atom("m"), Atom("f"), 1), None, object()):
        with pytest.raises(TypeError):
            phash2([wrong])


def test_deep_and_long_terms_need_no_recursion_and_linear_time():
    term = []
    for _ in range(5_000):
        term = [term]
    assert phash2(term) == phash2(term)
    assert phash2([[]] * 20_000) == phash2([[]] * 20_000)
