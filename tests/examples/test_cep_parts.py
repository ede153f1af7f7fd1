"""The pure parts of examples/cep against its oracle, on random input."""

from __future__ import annotations

import random
from itertools import chain
from pathlib import Path

import pytest
from cep import oracle
from cep.pattern import MAX_PARTIAL, Pattern, down, up
from cep.processor import Averages
from cep.symbol import CLOCK, END, FINAL, IDLE, MATCH, MAX_FINAL, MEAN, Refused, Settings, Symbol
from cep.watermark import Watermark
from cep.window import Sized, Tick, Timed, Window
from hypothesis import given, settings
from hypothesis import strategies as st

from erlmesh import Atom
from erlmesh.core.sharding.keeper import Origin
from erlmesh.etf.decode import decode
from erlmesh.etf.encode import encode

SPANS = st.one_of(st.integers(1, 40).map(Timed), st.integers(1, 8).map(Sized))
SHORT, LONG = Timed(20), Timed(1_000)
PEAK = Pattern("peak").next(up).times(3).next(down)
LOOSE = Pattern("loose").next(up).then(down).then(up).within(25)
PATTERNS = st.sampled_from([PEAK, LOOSE, Pattern("any").next(up), Pattern("two").then(down).times(2)])


@st.composite
def arrivals(draw, sources=(b"a",), late=15):
    """Ticks in the order of their arrival. A tick is at most ``late`` ms older than one that arrived before."""
    random_ = random.Random(draw(st.integers(0, 1 << 32)))
    now, numbers, ticks = 100, dict.fromkeys(sources, 0), []
    for _ in range(draw(st.integers(0, 60))):
        now += random_.choice([0, 0, 1, 1, 2, 7, 30])
        source = random_.choice(sources)
        numbers[source] += 1
        ticks.append(
            Tick(
                now - random_.choice([0, 0, 0, random_.randrange(late)]), source, numbers[source], random_.randrange(9)
            )
        )
    return ticks


NOW = 1_800_000_000_000


def symbol(span=SHORT, pattern=PEAK, **options):
    return Symbol(Settings(span=span, pattern=pattern, **{"lateness": 40, "idle": 5_000, **options}))


def feed(state, ticks):
    return [result for tick in ticks for result in state.tick(tick, NOW)]


def finals(results):
    """What a sink keeps: of several final means for a tick, that with most ticks."""
    kept = {}
    for _, source, number, _, *mean in filter(is_kind(FINAL), results):
        kept[source, number] = max(mean, kept.get((source, number), mean), key=lambda mean: mean[1])
    return kept


def is_kind(kind):
    return lambda result: result[0] == kind


def found(results):
    return [[Tick._make(row) for row in rows] for kind, *rest in results if kind == MATCH for rows in rest[1:]]


# The window


@given(arrivals(sources=(b"a", b"b")), SPANS)
def test_the_window_agrees_with_the_oracle_after_every_tick(ticks, span):
    window = Window(span)
    for count, tick in enumerate(ticks, 1):
        assert window[window.add(tick)] == tick
        assert [Tick._make(row) for row in window.rows()] == sorted(ticks[:count])
        means = {(t.source, t.number): window.mean(i) for i, t in enumerate(map(Tick._make, window.rows()))}
        assert means == oracle.final_means(ticks[:count], span)


def test_a_late_tick_expires_nothing_else():
    window = Window(Timed(60))
    for number, time in enumerate([100, 130, 159, 101, 99], 1):
        window.add(Tick(time, b"s", number, 1))

    assert [row[0] for row in window.rows()] == [99, 100, 101, 130, 159]
    assert [window.mean(position)[1] for position in range(5)] == [1, 2, 3, 4, 4]  # 99 is 60 before 159


def test_a_tick_leaves_the_window_after_exactly_its_duration():
    window = Window(Timed(60))
    for number, time in enumerate([100, 159, 160], 1):
        window.add(Tick(time, b"s", number, 10))

    assert [window.mean(position) for position in range(3)] == [(10, 1), (20, 2), (20, 2)]


def test_trimmed_ticks_do_not_count_and_the_means_stay_right_over_many_trims():
    window, ticks = Window(Timed(50)), []
    for number in range(5_000):
        ticks.append(Tick(number, b"s", number, number % 7))
        position = window.add(ticks[-1])
        assert window.mean(position) == (sum(t.price for t in ticks[-50:]), min(50, number + 1))
        window.trim(number - 1, position)
        assert len(window) <= 51
    assert len(window._ticks) < 3_000  # removed in bulk, but removed


def test_the_cost_of_a_tick_does_not_grow_with_the_window():
    """Counted in comparisons of ticks, not in seconds."""
    comparisons = []
    for size in (1_000, 64_000):
        counted = [0]

        class Source(bytes):
            """All ticks have the same time, so a comparison of ticks compares sources."""

            def __lt__(self, other, counted=counted):
                counted[0] += 1
                return bytes.__lt__(self, other)

            def __gt__(self, other, counted=counted):
                counted[0] += 1
                return bytes.__gt__(self, other)

        window = Window(Sized(size), [(0, Source(b"%08d" % number), 1, 1) for number in range(size)])
        position = window.add(Tick(0, Source(b"%08d" % size), 1, 1))
        assert window.mean(position) == (size, size)
        comparisons.append(counted[0])
    assert comparisons[1] <= comparisons[0] + 10


# The watermark


def test_the_watermark_is_the_least_last_time_minus_the_lateness():
    mark = Watermark(lateness=10, idle=5_000)
    mark.tick(b"a", 100)
    mark.tick(b"b", 50)
    assert mark.time == 90  # it does not go back when a source comes

    mark.tick(b"b", 130)
    assert mark.time == 90
    mark.tick(b"a", 120)

    assert mark.time == 110


def test_a_silent_source_holds_the_watermark_until_it_is_idle():
    mark = Watermark(lateness=10, idle=5_000)
    mark.tell_clock(1_000)
    mark.tick(b"slow", 100)
    mark.tick(b"quick", 1_000)
    for now in range(2_000, 6_000, 1_000):
        mark.tell_clock(now)
        mark.tick(b"quick", now)
        assert mark.time == 90

    mark.tell_clock(6_000)

    assert mark.time == 4_990


def test_without_sources_the_watermark_follows_the_clock():
    mark = Watermark(lateness=10, idle=5_000)
    mark.tick(b"a", 100)
    for now in range(0, 20_000, 1_000):
        mark.tell_clock(now)

    assert mark.time == 19_000 - 5_000 - 10


def test_a_jump_of_the_clock_is_no_silence_of_the_sources():
    mark = Watermark(lateness=10, idle=5_000)
    mark.tell_clock(0)
    mark.tick(b"a", 0)

    mark.tell_clock(20_000)  # The owner was paused. What the source has sent meanwhile comes behind this.

    mark.tick(b"a", 1)
    assert mark.time == -9


def test_when_the_last_source_ends_nothing_is_late():
    mark = Watermark(lateness=10, idle=5_000)
    mark.tick(b"a", 100)
    mark.tick(b"b", 70)
    mark.end(b"a")
    assert mark.time == 90

    mark.end(b"b")

    assert mark.time == 100


# Patterns


def prices(*values):
    return [Tick(time, b"s", time, price) for time, price in enumerate(values, 1)]


def run(pattern, ticks, span=LONG):
    state = symbol(span, pattern)
    return [[tick.price for tick in match] for match in found(feed(state, ticks) + state.end(b"s"))]


@pytest.mark.parametrize(
    ("pattern", "values", "expected"),
    [
        (PEAK, (1, 2, 3, 2), [[1, 2, 3, 2]]),
        (PEAK, (1, 2, 3, 4, 3), [[2, 3, 4, 3]]),
        (PEAK, (1, 2, 3, 3, 2), []),
        (PEAK, (1, 2, 3, 2, 3, 4, 1), [[1, 2, 3, 2]]),  # the search goes on behind the match
        (PEAK, (1, 2, 3, 2, 1, 3, 4, 1), [[1, 2, 3, 2], [1, 3, 4, 1]]),
        (Pattern("v").next(up).then(down).then(up), (5, 6, 4, 4, 3, 5), [[5, 4, 5]]),
        (Pattern("w").next(up).then(down).within(3), (5, 6, 6, 4), [[6, 4]]),
    ],
)
def test_patterns_find(pattern, values, expected):
    assert run(pattern, prices(*values)) == expected


def test_a_match_lies_in_one_window():
    assert run(PEAK, prices(1, 2, 3, 2), Sized(3)) == []
    assert run(PEAK, prices(1, 2, 3, 2), Timed(3)) == []
    assert run(PEAK, prices(1, 2, 3, 2), Sized(4)) == [[1, 2, 3, 2]]


def test_partial_matches_are_bounded():
    state = symbol(Timed(10_000), Pattern("never").next(up).then(lambda _tick, _matched: False), lateness=1)
    feed(state, prices(*[1] * (MAX_PARTIAL + 500)))

    assert len(state.partial) == MAX_PARTIAL


def test_a_pattern_without_steps_is_refused_and_so_is_times_without_a_step():
    with pytest.raises(ValueError, match="call next or then"):
        Pattern("empty").times(2)
    with pytest.raises(ValueError, match="has no step"):
        Pattern("empty").advance([], *prices(1, 1))


# A symbol


@given(arrivals(), SPANS, PATTERNS)
@settings(deadline=None)
def test_all_results_of_one_source_are_those_of_the_oracle(ticks, span, pattern):
    state = symbol(span, pattern)
    results = feed(state, ticks) + state.end(b"a")

    eager = [
        ((source, number), mean, revision) for _, source, number, _, *mean, revision in filter(is_kind(MEAN), results)
    ]
    assert [(name, tuple(mean), revision) for name, mean, revision in eager] == oracle.eager_means(ticks, span)
    assert {name: tuple(mean) for name, mean in finals(results).items()} == oracle.final_means(ticks, span)
    assert [tuple(match) for match in found(results)] == list(oracle.matches(ticks, span, pattern))
    assert sum(map(is_kind(FINAL), results)) == len(ticks)


@given(arrivals(sources=(b"a", b"b", b"c")), SPANS, PATTERNS, st.randoms())
@settings(deadline=None)
def test_final_results_do_not_depend_on_the_order_in_which_sources_arrive(ticks, span, pattern, random_):
    state, shuffled = symbol(span, pattern, lateness=200_000), ticks.copy()
    random_.shuffle(shuffled)
    results = feed(state, shuffled)
    results += [result for source in (b"a", b"b", b"c") for result in state.end(source)]

    assert {name: tuple(mean) for name, mean in finals(results).items()} == oracle.final_means(ticks, span)
    assert [tuple(match) for match in found(results)] == list(oracle.matches(ticks, span, pattern))


def test_a_late_tick_beyond_the_watermark_is_refused_and_changes_nothing():
    state = symbol(lateness=10)
    feed(state, [Tick(100, b"a", 1, 5)])
    before = list(state.dump())

    with pytest.raises(Refused, match="late: 90 is not after the watermark 90"):
        state.tick(Tick(90, b"a", 2, 5), NOW)

    assert list(state.dump()) == before


def test_a_tick_far_ahead_of_the_clock_is_refused():
    state = symbol(ahead=60_000)

    with pytest.raises(Refused, match="ahead: 61001 is 60001 ms ahead"):
        state.tick(Tick(61_001, b"a", 1, 5), 1_000)

    assert state.tick(Tick(61_000, b"a", 1, 5), 1_000)


def test_a_price_that_no_sum_can_hold_is_refused():
    with pytest.raises(Refused, match="2 to the power of 53"):
        symbol().tick(Tick(1, b"a", 1, 1 << 60), NOW)


def test_a_window_empties_by_the_clock_and_says_so_once():
    state = symbol(Timed(1_000), lateness=10)
    state.clock(0)
    state.tick(Tick(0, b"a", 1, 5), 0)
    results = [result for now in range(1_000, 20_000, 1_000) for result in state.clock(now)]

    assert results == [(FINAL, b"a", 1, 0, 5, 1), (IDLE, 1_990)]
    assert len(state.window) == 0


def test_a_jump_of_the_watermark_is_settled_in_bounded_steps():
    state = symbol(Timed(100_000), lateness=1_000_000)
    ticks = [Tick(time, b"a", time, 1) for time in range(2 * MAX_FINAL + 7)]
    feed(state, ticks)

    steps = [state.end(b"a"), state.clock(0), state.clock(0), state.clock(0)]

    assert [sum(map(is_kind(FINAL), step)) for step in steps] == [MAX_FINAL, MAX_FINAL, 7, 0]
    assert {n: tuple(m) for n, m in finals(chain(*steps)).items()} == oracle.final_means(ticks, Timed(100_000))


# Hand-over and merge


@given(arrivals(sources=(b"a", b"b")), SPANS, PATTERNS, st.integers(0, 60))
@settings(deadline=None)
def test_a_loaded_state_goes_on_as_the_dumped_one(ticks, span, pattern, cut):
    state = symbol(span, pattern)
    feed(state, ticks[:cut])

    heir = Symbol.load(state.settings, list(state.dump()))

    assert list(heir.dump()) == list(state.dump())
    assert feed(heir, ticks[cut:]) == feed(state, ticks[cut:])
    assert list(heir.dump()) == list(state.dump())


def sides(ticks, common, span, pattern):
    """Two states after a split: the first ``common`` ticks went to both, then those of a source to one side."""
    first, second = symbol(span, pattern), symbol(span, pattern)
    feed(first, ticks[:common])
    feed(second, ticks[:common])
    feed(first, [tick for tick in ticks[common:] if tick.source == b"a"])
    feed(second, [tick for tick in ticks[common:] if tick.source == b"b"])
    return first, second


def view(state):
    return list(state.dump())


@given(arrivals(sources=(b"a", b"b")), SPANS, PATTERNS, st.integers(0, 60))
@settings(deadline=None)
def test_merge_is_commutative_and_idempotent(ticks, span, pattern, common):
    first, second = sides(ticks, common, span, pattern)
    merged = first.merge(second)

    assert view(merged) == view(second.merge(first))
    assert view(merged.merge(second)) == view(merged)
    assert view(merged.merge(merged)) == view(merged)


@given(arrivals(sources=(b"a", b"b", b"c")), SPANS, st.integers(0, 60))
@settings(deadline=None)
def test_merge_is_associative(ticks, span, common):
    a, b, c = (symbol(span) for _ in range(3))
    for state, source in ((a, b"a"), (b, b"b"), (c, b"c")):
        feed(state, ticks[:common])
        feed(state, [tick for tick in ticks[common:] if tick.source == source])

    assert view(a.merge(b).merge(c)) == view(a.merge(b.merge(c)))


@given(arrivals(sources=(b"a", b"b")), SPANS, PATTERNS, st.integers(0, 60), st.integers(0, 60))
@settings(deadline=None)
def test_after_a_merge_the_window_is_that_of_all_ticks(ticks, span, pattern, common, split):
    split = min(max(split, common), len(ticks))
    first, second = sides(ticks[:split], common, span, pattern)
    merged = first.merge(second)
    try:
        feed(merged, ticks[split:])
    except Refused:  # later than the watermark of the other side
        return

    window = merged.window
    if window:
        last = len(window) - 1
        assert [Tick._make(row) for row in window.rows(window.start(last))] == oracle.window_at_end(ticks, span)


@given(arrivals(), SPANS, PATTERNS, st.integers(0, 60), st.integers(0, 60))
@settings(deadline=None)
def test_if_one_side_had_the_source_every_result_after_the_merge_is_right(ticks, span, pattern, common, split):
    split = min(max(split, common), len(ticks))
    first, second = symbol(span, pattern), symbol(span, pattern)
    results = feed(first, ticks[:common])
    feed(second, ticks[:common])
    results += feed(first, ticks[common:split])

    merged = second.merge(first)
    results += feed(merged, ticks[split:]) + merged.end(b"a")

    assert {name: tuple(mean) for name, mean in finals(results).items()} == oracle.final_means(ticks, span)
    assert [tuple(match) for match in found(results)] == list(oracle.matches(ticks, span, pattern))


@given(arrivals(sources=(b"a", b"b")), st.integers(1, 40).map(Timed), st.integers(0, 60))
@settings(deadline=None)
def test_a_final_mean_leaves_for_every_tick_of_both_sides(ticks, span, common):
    first, second = symbol(span, lateness=16), symbol(span, lateness=16)
    results = []
    for state, source in ((first, b"a"), (second, b"b")):
        results += feed(state, ticks[:common])
        results += feed(state, [tick for tick in ticks[common:] if tick.source == source])
    merged = first.merge(second)
    results += merged.end(b"a") + merged.end(b"b") + merged.clock(0)

    assert set(finals(results)) == {(tick.source, tick.number) for tick in ticks}


def test_pieces_of_a_hand_over_are_small():
    state = symbol(Timed(10_000_000), lateness=1_000_000)
    feed(state, [Tick(1_700_000_000_000 + time, b"plato@127.0.0.1/1/ticks", time, 10_000_000) for time in range(5_000)])

    assert max(len(encode(piece)) for piece in state.dump()) < 64 * 1024
    assert max(len(encode(state.end(b"plato@127.0.0.1/1/ticks"))), 0) < 64 * 1024


# The keeper


PLATO = (Atom("plato@127.0.0.1"), 7, b"ticks")


def origin(number, time=1_000.0, source=PLATO):
    return Origin(key=b"AAPL", source=source, number=number, time=time)


def test_the_keeper_reads_the_messages_of_sources_and_of_the_clock():
    keeper = Averages(Settings(lateness=10, idle=1_000))
    state = keeper.new(b"AAPL")

    assert keeper.apply(state, (1_000_000, 5), origin(1)) == [(MEAN, b"plato@127.0.0.1/7/ticks", 1, 1_000_000, 5, 1, 0)]
    assert keeper.apply(state, CLOCK, origin(1, source=(Atom("owner@127.0.0.1"), 1, b"clock"))) == []
    assert keeper.apply(state, END, origin(2)) == [(FINAL, b"plato@127.0.0.1/7/ticks", 1, 1_000_000, 5, 1)]


@pytest.mark.parametrize("message", [b"clock", (1, 2.0), (1, 2, 3), (b"1", 2), [], Atom("stop")])
def test_the_keeper_refuses_other_messages(message):
    with pytest.raises(Refused, match="a message is"):
        Averages().apply(Symbol(Settings()), message, origin(1))


def test_a_state_travels_through_the_codec():
    keeper = Averages(Settings(span=Timed(50), lateness=5))
    state = keeper.new(b"AAPL")
    for number in range(1, 100):
        keeper.apply(state, (number * 3 + number % 2 * 5, number % 5), origin(number))

    heir = keeper.load([decode(encode(piece)) for piece in keeper.dump(state)])

    assert view(heir) == view(state)


def test_the_keeper_is_short():
    source = Path(__file__).parents[2] / "examples" / "cep" / "processor.py"

    assert len(source.read_text().splitlines()) <= 60


def test_a_source_that_has_moved_between_the_sides_gets_all_final_means():
    """A stale owner wakes up and gets some ticks, and then the other owner gets those after them."""
    stale, other = symbol(LONG, lateness=5), symbol(LONG, lateness=5)
    ticks = [Tick(time, b"a", number, 1) for number, time in enumerate(range(0, 200, 5))]
    results = feed(stale, ticks[:10])
    feed(other, ticks[:10])
    results += feed(other, ticks[10:20]) + feed(stale, ticks[20:25]) + feed(other, ticks[25:])

    merged = stale.merge(other)
    results += merged.end(b"a")

    assert set(finals(results)) == {(tick.source, tick.number) for tick in ticks}


@given(arrivals(), st.integers(1, 40).map(Timed), st.integers(0, 60), st.integers(0, 60), st.booleans())
def test_a_side_that_began_without_a_copy_loses_no_final_mean(ticks, span, cut, heal, swap):
    """The source is cut off from the owner. The side of the source has no copy, and begins with an empty window."""
    cut, heal = sorted((min(cut, len(ticks)), min(heal, len(ticks))))
    owner, new = symbol(span, lateness=15), symbol(span, lateness=15)
    results = feed(owner, ticks[:cut]) + feed(new, ticks[cut:heal])

    merged = new.merge(owner) if swap else owner.merge(new)
    results += feed(merged, ticks[heal:]) + merged.end(b"a") + merged.clock(0)

    assert set(finals(results)) == {(tick.source, tick.number) for tick in ticks}


def test_what_a_merge_owes_does_not_leave_with_a_tick():
    """Both sides may apply the same tick while they merge, and sinks take the results of one side."""
    first, second = symbol(LONG, lateness=5), symbol(LONG, lateness=5)
    feed(first, [Tick(time, b"a", time, 1) for time in range(10, 100, 10)])
    feed(second, [Tick(time, b"b", time, 1) for time in range(15, 60, 10)])

    merged = first.merge(second)

    assert finals(feed(merged, [Tick(101, b"a", 101, 1)])) == {}
    assert {(b"a", 10), (b"b", 15)} < set(finals(merged.clock(0)))
