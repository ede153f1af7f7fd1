"""The native code does what the pure code does, and leaks nothing. ``make fuzz`` runs this for longer."""

import contextlib
import gc
import os
import sys
import time

import pytest

from erlmesh import native
from fuzz import codec, leaks
from fuzz.wire import wire_pair

pytestmark = pytest.mark.skipif(native.module is None, reason=f"nothing to compare: {native.description}")
SECONDS = 2
SEED = int.from_bytes(os.urandom(4), "big")


def test_random_input_gives_the_same_result_in_both_builds():
    seed, ends = SEED, time.process_time() + SECONDS
    while time.process_time() < ends:
        try:
            codec.run_case(seed)
        except BaseException as error:
            error.add_note(f"repeat it with  make fuzz SEED={seed} SECONDS=0")
            raise
        seed += 1


@pytest.mark.slow
@pytest.mark.parametrize("what", codec.LEAK_CASES)
def test_nothing_leaks(what):
    run = codec.LEAK_CASES[what]
    for _ in range(3):
        run()
    gc.collect()
    before = sys.getallocatedblocks(), sys.getrefcount(codec.HEADER[0]), sys.getrefcount(codec.HEADER[1])

    for _ in range(300):
        run()

    gc.collect()
    after = sys.getallocatedblocks(), sys.getrefcount(codec.HEADER[0]), sys.getrefcount(codec.HEADER[1])
    assert [now - then < 100 for now, then in zip(after, before, strict=True)] == [True] * 3, (before, after)


@pytest.mark.slow
def test_terms_and_messages_with_faults_leave_nothing_behind():
    assert leaks.LeakCheck().run(6_000) == []


@pytest.mark.slow
def test_the_search_for_leaks_finds_blocks_and_references(monkeypatch):
    kept, run_case = [], leaks.run_case

    def leak(case):
        kept.append((wire_pair(native.module.Wire, case.flags), [object() for _ in range(10)]))
        return run_case(case)

    monkeypatch.setattr(leaks, "run_case", leak)

    found = leaks.LeakCheck().run(6_000)

    assert any(line.endswith(" blocks of memory") for line in found)
    assert any(line.endswith(" references to Atom('local@h')") for line in found)


HOSTILE = [None, 1, -1, 2**70, "x", b"", b"\x83", bytearray(b"\x83j"), (), [], object(), float("nan")]


@pytest.mark.parametrize("name", ["encode", "encode_term", "encode_into", "decode", "decode_term", "exact_key",
                                  "Pid", "Ref", "ImproperList"])  # fmt: skip
def test_no_argument_makes_a_panic(name):
    function = getattr(native.module, name)

    for first in HOSTILE:
        _call(function, first)
        for second in HOSTILE:
            _call(function, first, second)
            for third in HOSTILE:
                _call(function, first, second, third)
                _call(function, first, second, third, third)


def _call(function, *arguments):
    with contextlib.suppress(Exception):  # a panic is a BaseException
        function(*arguments)
