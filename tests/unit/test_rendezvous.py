"""Which member of a group is responsible for a key: ``pg.owner``, beside the vectors that Elixir also computes."""

import json
from pathlib import Path

import pytest
from fake_cluster import Cluster
from hypothesis import given
from hypothesis import strategies as st

from erlmesh.core.sharding import rendezvous
from erlmesh.core.sharding.rendezvous import Rendezvous, key_bytes
from erlmesh.services.pg.server import Pg
from erlmesh.terms import Atom, Pid
from erlmesh.terms.order import sort_key

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/owners.json").read_text())
KEYS = [b"key %d" % number for number in range(1200)]

names = st.text(st.characters(codec="utf-8", exclude_characters="\0@"), min_size=1, max_size=8)
pids = st.builds(
    Pid,
    st.builds(lambda name: Atom(f"{name}@h"), names),
    st.integers(0, 9),
    st.integers(0, 2),
    st.integers(1, 3),
)
members = st.lists(pids, max_size=8)
keys = st.binary(max_size=12)


def member(node, number=1):
    return Pid(Atom(node), number, 0, 1)


def nodes(count):
    return [member(f"n{number}@10.0.0.{number}") for number in range(count)]


def owners_of(group):
    choice = Rendezvous(group)
    return [choice.owner(key) for key in KEYS]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_the_owners_are_those_of_the_vectors(case):
    group = [Pid(Atom(node), number, serial, creation) for node, number, serial, creation in case["members"]]
    choice = Rendezvous(group)

    for key, indices in case["owners"].items():
        expected = [group[index] for index in indices]
        assert choice.owners(bytes.fromhex(key), len(group)) == expected
        assert choice.owner(bytes.fromhex(key)) == (expected[0] if expected else None)


@given(members, keys, st.randoms())
def test_the_owner_depends_on_the_set_of_members_only(group, key, random):
    again = group + group[:1]
    random.shuffle(again)

    assert Rendezvous(again).owners(key, 9) == Rendezvous(group).owners(key, 9)


@given(members, keys)
def test_the_second_owner_becomes_the_first_when_the_node_of_the_first_leaves(group, key):
    found = Rendezvous(group).owners(key, 9)

    for index, pid in enumerate(found):
        assert Rendezvous(group).owner(key) == pid
        group = [each for each in group if each.node is not pid.node]
        assert Rendezvous(group).owners(key, 9) == found[index + 1 :]


@given(members, keys)
def test_the_least_pid_of_a_node_stands_for_it(group, key):
    for pid in Rendezvous(group).owners(key, 9):
        assert pid == min((each for each in group if each.node is pid.node), key=sort_key)


@given(members, keys, pids)
def test_a_node_that_comes_takes_keys_for_itself_only(group, key, new):
    before, after = Rendezvous(group).owner(key), Rendezvous([*group, new]).owner(key)

    assert after == before or after.node is new.node


def test_a_node_that_comes_takes_an_equal_share_of_each_other_node():
    before, after = owners_of(nodes(4)), owners_of(nodes(5))

    taken = [old for old, new in zip(before, after, strict=True) if new != old]
    assert len(KEYS) / 5 * 0.8 < len(taken) < len(KEYS) / 5 * 1.2
    for pid in nodes(4):
        share = taken.count(pid) / before.count(pid)
        assert 0.1 < share < 0.3


def test_a_key_is_text_or_the_bytes_of_its_utf_8():
    assert key_bytes("naïve") == "naïve".encode()
    assert key_bytes(b"\xff") == b"\xff"
    for wrong in (7, None, Atom("key"), bytearray(b"key")):
        with pytest.raises(TypeError, match="a key is a str or bytes"):
            key_bytes(wrong)


# pg.owner


@pytest.fixture
def scope():
    cluster = Cluster()
    a, b = cluster.node("a@h"), cluster.node("b@h")
    pg_a, pg_b = Pg(a), Pg(b)
    cluster.connect(a, b)
    cluster.run()
    return cluster, a, b, pg_a, pg_b


def test_both_nodes_name_the_same_owner(scope):
    cluster, a, b, pg_a, pg_b = scope
    pg_a.join("models", [a.process().pid for _ in range(3)])
    pg_b.join("models", [b.process().pid for _ in range(3)])
    cluster.run()

    answers = [pg_a.owner("models", key) for key in KEYS]

    assert answers == [pg_b.owner("models", key) for key in KEYS]
    assert {pid.node for pid in answers} == {a.atom, b.atom}
    assert pg_a.owners("models", "é", 2) == pg_b.owners("models", "é".encode(), 5)
    assert len(pg_a.owners("models", "key", 5)) == 2
    assert pg_a.owners("models", "key", 0) == []


def test_an_empty_group_has_no_owner(scope):
    pg = scope[3]

    assert pg.owner("nobody", "key") is None
    assert pg.owners("nobody", "key", 2) == []
    assert not pg._server.state._groups._listings, "a group that does not exist costs no memory"


def test_wrong_arguments_are_refused_also_for_an_empty_group(scope):
    pg = scope[3]

    with pytest.raises(TypeError, match="a key is a str or bytes"):
        pg.owner("nobody", 7)
    with pytest.raises(TypeError, match="a key is a str or bytes"):
        pg.owners("nobody", 7, 1)
    for wrong in (-1, 1.0, "2", True, None):
        with pytest.raises(ValueError, match="a count is 0 or more, not "):
            pg.owners("nobody", "key", wrong)


def test_an_unchanged_group_is_ranked_once_and_a_change_counts_at_once(scope, monkeypatch):
    cluster, a, b, pg_a, pg_b = scope
    built = []

    class Counted(Rendezvous):
        def __init__(self, group):
            built.append(1)
            super().__init__(group)

    monkeypatch.setattr(rendezvous, "Rendezvous", Counted)
    here, there = a.process().pid, b.process().pid
    pg_a.join("models", here)

    assert {pg_a.owner("models", key) for key in KEYS} == {here}
    assert len(built) == 1
    pg_b.join("models", there)
    cluster.run()
    assert {pg_a.owner("models", key) for key in KEYS} == {here, there}
    assert len(built) == 2
    pg_a.leave("models", here)
    assert {pg_a.owner("models", key) for key in KEYS} == {there}
    assert len(built) == 3
    pg_b.leave("models", there)
    cluster.run()
    assert pg_a.owner("models", "key") is None
