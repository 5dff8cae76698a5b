"""The lossless last step: what travels is entropy-coded, what is stored and counted is not.

Codes of few levels are near what they can be; zstd takes another 5 to 10 % off a file of them. It belongs to the
transport: no runtime reads such a file, so it is in no ratio.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

CODING = "zstd"  # of Accept-Encoding and Content-Encoding (RFC 8878)
LEVEL = 3  # 19 takes a hundred times as long for another percent
CHUNK = 1 << 20


def encoded(source: BinaryIO) -> Iterator[bytes]:
    """`source` in one zstd frame, piece by piece: neither form is ever whole in memory."""
    import zstandard  # noqa: PLC0415 - the light half of core loads with the standard library and pydantic

    return zstandard.ZstdCompressor(level=LEVEL).read_to_iter(source, read_size=CHUNK, write_size=CHUNK)
