"""Whole numbers below a few levels in as few bytes as whole digits allow: 2 bits take 2 bits, three levels take 1.6.

A code below `levels` is written in mixed radix, lowest digit first; every digit has a byte array of its own, in which
each byte holds as many of them as fit: 8 binary digits, 5 ternary, 4 quaternary, 2 hexadecimal, 1 of base 256.
This is the size law; `core.export.digits` writes and reads them.
"""

from __future__ import annotations

A_BYTE = {2: 8, 3: 5, 4: 4, 16: 2, 256: 1}  # base -> digits in a byte
DIGITS = {2: (2,), 3: (3,), 4: (4,), 6: (3, 2), 8: (4, 2), 12: (4, 3), 16: (16,), 256: (256,)}  # levels -> bases


def bits(levels: int) -> float:
    """Bits an entry, but for the last byte of each digit."""
    return sum(8 / A_BYTE[base] for base in DIGITS[levels])


def size_bytes(levels: int, entries: int) -> int:
    """Bytes that so many codes take."""
    return sum(-(-entries // A_BYTE[base]) for base in DIGITS[levels])
