"""Lists of node names find an Atom and a text alike."""

import pytest

from erlmesh.core.node_names import NodeNames, NodeTable
from erlmesh.etf import encode
from erlmesh.terms import Atom

A, B = Atom("a@h"), Atom("b@h")


def test_an_atom_and_its_text_are_found_alike():
    names = NodeNames(["a@h", "c@h"])

    assert A in names
    assert "a@h" in names
    assert B not in names
    assert "b@h" not in names
    assert 1 not in names
    assert names.index(Atom("c@h")) == names.index("c@h") == 1
    assert names.count(A) == names.count("a@h") == 1
    with pytest.raises(ValueError, match="not in list"):
        names.index(B)


def test_remove_takes_an_atom_or_a_text():
    names = NodeNames(["a@h", "b@h"])

    names.remove(A)
    names.remove("b@h")

    assert names == []


def test_everything_else_is_that_of_a_list_of_texts():
    names = NodeNames(["a@h"])

    assert names == ["a@h"]
    assert names != [A]
    assert repr(names) == "['a@h']"
    assert sorted([*names, "0@h"]) == ["0@h", "a@h"]
    assert bytes(encode(names)) == bytes(encode(["a@h"]))


def test_a_table_by_node_name_is_read_with_an_atom_or_a_text():
    table = NodeTable({"a@h": 1})

    assert (A in table, "a@h" in table, B in table) == (True, True, False)
    assert table[A] == table["a@h"] == table.get(A) == 1
    assert (table.get(B), table.get(B, 2)) == (None, 2)
    assert table == {"a@h": 1}
    with pytest.raises(KeyError):
        table[B]
