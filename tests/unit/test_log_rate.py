"""How many log lines others may cause, on a virtual clock."""

from erlmesh.core.log_rate import BURST, INTERVAL, LogRate


def test_a_burst_is_written_and_then_one_line_in_an_interval_with_the_count():
    rate = LogRate()
    assert [rate.admit("kind", "peer", 0.0) for _ in range(BURST)] == [0] * BURST

    assert [rate.admit("kind", "peer", number / 100) for number in range(1000)] == [None] * 1000

    assert rate.admit("kind", "peer", INTERVAL + 1) == 1000
    assert rate.admit("kind", "peer", INTERVAL + 2) is None


def test_other_peers_and_other_kinds_have_lines_of_their_own():
    rate = LogRate()
    for _ in range(100):
        rate.admit("kind", "peer", 0.0)

    assert rate.admit("kind", "other", 0.0) == 0
    assert rate.admit("other", "peer", 0.0) == 0


def test_many_names_do_not_give_many_lines():
    rate = LogRate()

    lines = [rate.admit("kind", f"peer{number}", 0.0) for number in range(10_000)]

    assert len([line for line in lines if line is not None]) == 10 * BURST
    assert len(rate._peers) <= 512
