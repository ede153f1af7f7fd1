"""Cut bytes into pieces, as TCP may deliver them. The cuts depend on the bytes only, so that a run can be repeated."""

from random import Random
from zlib import crc32


def pieces(data: bytes) -> list[bytes]:
    """Return the bytes in up to nine pieces."""
    random = Random(crc32(data))
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice([1, 2, 8])))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def single_bytes(data: bytes) -> list[bytes]:
    """Return each byte as a piece; only for short input."""
    return [data[at : at + 1] for at in range(len(data))]
