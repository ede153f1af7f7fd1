"""The distribution header and its atom cache."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh.errors import RemoteProtocolError
from erlmesh.proto.atom_cache import CACHED_HEADER_SIZE, CELLS, AtomReader, AtomWriter, encode_references
from erlmesh.terms import Atom


def read(reader, data):
    atoms, has_new, offset = reader.read(data, 0)
    return [atom.name for atom in atoms], has_new, offset


def write(writer, names, **options):
    references = writer.new_header(**options)
    for name in names:
        references.get(Atom(name))
    return writer.write(references)


def test_a_header_without_references_is_one_zero():
    assert encode_references([]) == b"\x00"
    assert read(AtomReader(), b"\x00rest") == ([], False, 1)


def test_reads_a_captured_header():
    reader = AtomReader()

    header = bytes.fromhex("048fcc00240b61403132372e302e302e3105005903726578ea1066656174757265735f72657175657374")

    assert read(reader, header) == (["a@127.0.0.1", "", "rex", "features_request"], True, len(header))


def test_a_known_atom_is_referred_to_by_its_cell():
    reader = AtomReader()
    read(reader, encode_references([(7 * 256 + 36, b"a"), (5, b"b")]))

    assert read(reader, encode_references([(5, None), (7 * 256 + 36, None)])) == (["b", "a"], False, 5)


def test_lengths_have_two_bytes_if_an_atom_is_long():
    long, name = "ж" * 200, "short"
    header = encode_references([(1, None), (2, long.encode()), (3, name.encode())])
    reader = AtomReader()
    read(reader, encode_references([(1, b"one")]))

    assert read(reader, header) == (["one", long, name], True, len(header))


def test_writes_a_captured_header_with_a_long_atom():
    header = encode_references([(7 * 256 + 0x7D, None), (2 * 256 + 0xEB, None), (4 * 256 + 0xC0, b"x" * 400)])

    assert header == bytes.fromhex("03271c7debc00190") + b"x" * 400


def test_overwrites_counts_only_cells_that_get_another_atom():
    reader = AtomReader()
    read(reader, encode_references([(1, b"a")]))
    read(reader, encode_references([(1, b"a")]))
    assert reader.overwrites == 0

    read(reader, encode_references([(1, b"b")]))

    assert reader.overwrites == 1
    assert read(reader, encode_references([(1, None)]))[0] == ["b"]


def test_a_reference_to_an_empty_cell_is_an_error():
    with pytest.raises(RemoteProtocolError, match="empty atom cache cell 517"):
        AtomReader().read(encode_references([(2 * 256 + 5, None)]), 0)


@pytest.mark.parametrize("text", [b"\xff", "ж".encode() * 256, b"x" * 256])
def test_an_invalid_atom_is_an_error(text):
    with pytest.raises(RemoteProtocolError, match="invalid atom"):
        AtomReader().read(encode_references([(1, text)]), 0)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, CELLS - 1), st.none() | st.text(max_size=8)), max_size=20), st.data())
def test_a_truncated_header_is_an_error(entries, data):
    header = encode_references([(cell, (text or "filled").encode()) for cell, text in entries])
    cut = data.draw(st.integers(0, len(header) - 1))

    with pytest.raises(RemoteProtocolError, match="truncated"):
        AtomReader().read(header[:cut], 0)


@given(st.binary(max_size=60))
def test_any_bytes_give_atoms_or_a_remote_protocol_error(noise):
    try:
        atoms, _, offset = AtomReader().read(noise, 0)
    except RemoteProtocolError:
        return
    assert len(atoms) == noise[0]
    assert offset <= len(noise)


def test_cached_header_sizes_are_those_of_headers_without_new_atoms():
    sizes = [2 + len(encode_references([(0, None)] * count)) for count in range(256)]

    assert list(CACHED_HEADER_SIZE) == sizes


# Writing


@given(st.lists(st.lists(st.sampled_from([f"atom{n}" for n in range(40)]), max_size=30), max_size=20))
def test_any_sequence_of_headers_round_trips(headers):
    writer, reader = AtomWriter(), AtomReader()
    for names in headers:
        header, has_new = write(writer, names)

        assert read(reader, header) == (list(dict.fromkeys(names)), has_new, len(header))


def test_the_text_of_an_atom_is_written_once():
    writer = AtomWriter()

    assert write(writer, ["rex"]) == (b"\x01\x08\x00\x03rex", True)
    assert write(writer, ["rex"]) == (b"\x01\x00\x00", False)


def test_a_header_that_is_not_written_fills_no_cell():
    writer = AtomWriter()
    writer.new_header().get(Atom("never written"))

    assert write(writer, ["rex"]) == (b"\x01\x08\x00\x03rex", True)


def test_atoms_beyond_the_last_cell_get_no_reference():
    writer, reader = AtomWriter(), AtomReader()
    for number in range(CELLS + 100):
        header, _ = write(writer, [f"atom{number}"])
        reader.read(header, 0)

    references = writer.new_header()

    assert references.get(Atom("one too many")) is None
    assert references.get(Atom("atom0")) == 0
    assert read(reader, write(writer, [f"atom{number}" for number in range(250)])[0])[0][249] == "atom249"


def test_atoms_of_messages_use_at_most_half_of_the_cells():
    writer = AtomWriter()
    for number in range(CELLS // 2):
        write(writer, [f"atom{number}"])
    references = writer.new_header()

    references.encoding_message = True
    assert references.get(Atom("from a message")) is None
    references.encoding_message = False
    assert references.get(Atom("a name")) == 0


def test_a_header_has_at_most_255_references():
    references = AtomWriter().new_header()

    numbers = [references.get(Atom(f"atom{number}")) for number in range(300)]

    assert numbers == [*range(255), *[None] * 45]
