import pytest

from erlmesh.core.allow_list import AllowList
from erlmesh.terms import Atom


@pytest.mark.parametrize(
    ("entry", "met", "not_met"),
    [
        ("plato@10.0.0.7", "plato@10.0.0.7", "plato@10.0.0.70"),
        ("10.0.0.7", "anybody@10.0.0.7", "anybody@10x0.0.7"),
        ("plato@", "plato@anywhere", "platon@anywhere"),
        ("w*@10.0.*", "w12@10.0.3.4", "w12@10.1.0.3"),
        ("w?@*", "w1@x", "w12@x"),
        ("*", "a@b", ""),
        (Atom("a@::1"), "a@::1", "a@::2"),
    ],
)
def test_an_entry_allows_a_node_a_host_an_alive_name_or_a_pattern(entry, met, not_met):
    allowed = AllowList([entry])

    assert allowed.allows(met)
    assert not allowed.allows(not_met)


def test_all_nodes_are_allowed_until_the_first_entry():
    allowed = AllowList()
    assert allowed.allows("a@b")
    assert allowed.entries == ()

    allowed.add(["a@b"])
    allowed.add(["c@d"])

    assert [name for name in ("a@b", "c@d", "e@f") if allowed.allows(name)] == ["a@b", "c@d"]
    assert allowed.entries == ("a@b", "c@d")


@pytest.mark.parametrize("entry", ["", "@", "@host", "a@b@c", "a b@c", "a\n@b"])
def test_an_entry_that_cannot_match_a_node_is_refused_and_changes_nothing(entry):
    allowed = AllowList(["x@y"])

    with pytest.raises(ValueError, match="allows no node"):
        allowed.add(["a@b", entry])

    assert allowed.entries == ("x@y",)


def test_an_empty_list_or_a_single_name_is_refused():
    with pytest.raises(ValueError, match="empty allow-list"):
        AllowList([])
    with pytest.raises(TypeError, match="list of names"):
        AllowList("plato@host")
