"""Codes to bytes and back, by the digits of `core.codes`. Exact both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from core.codes import A_BYTE, DIGITS

BYTES = npt.NDArray[np.uint8]


def encode(codes: npt.NDArray[Any], levels: int) -> tuple[BYTES, ...]:
    """One byte array for each digit of the codes, in row-major order. Raises ValueError for a code out of range."""
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < levels:
        raise ValueError(f"codes from {int(codes.min())} to {int(codes.max())}; legal are 0 to {levels - 1}")
    rest, words = codes.reshape(-1).astype(np.int64), []
    for base in DIGITS[levels]:
        count = A_BYTE[base]
        padded = np.zeros(-(-rest.size // count) * count, np.int64)
        padded[: rest.size], rest = rest % base, rest // base
        places = base ** np.arange(count)
        words.append((padded.reshape(-1, count) * places).sum(axis=1).astype(np.uint8))
    return tuple(words)


def table(base: int) -> BYTES:
    """The digits (256, digits in a byte) of every byte; of bytes that `encode` cannot make as well."""
    places = base ** np.arange(A_BYTE[base])
    digits: BYTES = (np.arange(256)[:, None] // places % base).astype(np.uint8)
    return digits


def decode(words: tuple[BYTES, ...], levels: int, entries: int) -> BYTES:
    """The codes (entries,). Raises ValueError where the bytes are not what `encode` makes of so many codes."""
    bases = DIGITS[levels]
    found, weight = np.zeros(entries, np.uint8), 1
    if len(words) != len(bases):
        raise ValueError(f"{len(words)} byte arrays; codes below {levels} have {len(bases)}")
    for base, word in zip(bases, words, strict=True):
        if word.shape != (-(-entries // A_BYTE[base]),):
            raise ValueError(f"{word.size} bytes for {entries} digits of base {base}")
        digits = table(base)[word].reshape(-1)
        if digits[entries:].any() or int(word.max(initial=0)) >= base ** A_BYTE[base]:
            raise ValueError(f"bytes of base {base} hold what no code is")
        found += digits[:entries] * np.uint8(weight)
        weight *= base
    return found
