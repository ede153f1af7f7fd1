"""Places that all addresses share: who must go when they are full."""

from hypothesis import given
from hypothesis import strategies as st

from erlmesh.core.fair_share import FairShare


def test_the_oldest_of_the_address_with_the_most_goes():
    share = FairShare(4, 100)
    assert [share.add(client, "a") for client in ("a1", "a2", "a3")] == [None] * 3
    assert share.add("b1", "b") is None

    assert share.add("c1", "c") == "a1"
    assert "a1" not in share
    assert share.add("c2", "c") == "a2"


def test_an_address_cannot_exceed_its_share_when_there_is_room():
    share = FairShare(100, 2)
    share.add("a1", "a")
    share.add("a2", "a")

    assert share.add("b1", "b") is None
    assert share.add("a3", "a") == "a1"
    assert len(share) == 3


def test_a_client_that_has_left_makes_room():
    share = FairShare(1, 1)
    share.add("a1", "a")

    share.discard("a1")
    share.discard("unknown")

    assert share.add("a2", "a") is None
    assert share.drop() == "a2"
    assert share.drop() is None


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans())), st.integers(1, 5), st.integers(1, 5))
def test_a_client_goes_only_if_its_address_has_the_most(steps, limit, limit_per_address):
    share, addresses = FairShare(limit, limit_per_address), {}
    for number, (address, leaves) in enumerate(steps):
        if leaves and addresses:
            first = next(iter(addresses))
            share.discard(first)
            del addresses[first]
            continue
        addresses[number] = address
        dropped = share.add(number, str(address))
        counts = [list(addresses.values()).count(each) for each in addresses.values()]
        if dropped is not None:
            mine = list(addresses.values()).count(addresses[dropped])
            assert mine == max(counts) or (addresses[dropped] == address and mine > limit_per_address)
            del addresses[dropped]
        assert len(share) == len(addresses) <= limit
