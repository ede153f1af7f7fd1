"""External terms: both decoders give the same term or the same error, and a decoded term survives a round trip."""

from erlmesh import native
from fuzz.codec import (
    HEADER,
    PURE_DECODE,
    PURE_ENCODE,
    assert_same_decoding,
    assert_same_encoding,
    outcome,
    shape,
)


def run(data: bytes) -> None:
    """Decode ``data`` as a term behind the version byte. The atoms of a distribution header are known."""
    if native.module is not None:
        assert_same_decoding(data, 0, HEADER)
    result = outcome(PURE_DECODE.decode_term, data, 0, HEADER)
    if result[0] != "returned":
        assert result[1] is PURE_DECODE.DecodeError, result
        return
    term = result[1][0]
    encoded = outcome(PURE_ENCODE.encode_term, term, None)
    assert encoded[0] == "returned", encoded
    if native.module is not None:
        assert_same_encoding(term, None)
    again, end = PURE_DECODE.decode_term(encoded[1], 0, HEADER)
    assert end == len(encoded[1])
    assert shape(again) == shape(term), data
