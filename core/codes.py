"""Whole numbers below a few levels in as few bytes as whole digits allow: 2 bits take 2 bits, three levels take 1.6.

A code below `levels` is written in mixed radix, lowest digit first; every digit has a byte array of its own, in which
each byte holds as many of them as fit: 8 binary digits, 5 ternary, 4 quaternary, 2 hexadecimal, 1 of base 256.
This is the size law; `core.export.digits` writes and reads them. Where there are more scales than a table is worth, a
scale is one byte: its place in a table of SCALES fp16 numbers.
"""

from __future__ import annotations

A_BYTE = {2: 8, 3: 5, 4: 4, 16: 2, 256: 1}  # base -> digits in a byte
# levels -> bases
DIGITS = {
    2: (2,), 3: (3,), 4: (4,), 6: (3, 2), 8: (4, 2), 12: (4, 3), 16: (16,), 32: (16, 2), 64: (16, 4), 256: (256,),
}  # fmt: skip


# Whole numbers from -64 to 64 with one scale a row, as runtimes multiply them: stored as int8, not in digits. No
# larger, for processors without integer dot products add pairs of products with 0 to 255 in 16 bits:
# 2 x 255 x 64 < 2^15.
INT8 = 129


def bits(levels: int) -> float:
    """Bits an entry, but for the last byte of each digit."""
    return sum(8 / A_BYTE[base] for base in DIGITS[levels])


def size_bytes(levels: int, entries: int) -> int:
    """Bytes that so many codes take."""
    return sum(-(-entries // A_BYTE[base]) for base in DIGITS[levels])


SCALES = 256  # numbers that the scales of one matrix may be, where each is stored in a byte


def scales_in_table(count: int) -> bool:
    """Whether so many fp16 scales take fewer bytes as places in a table of SCALES fp16 numbers."""
    return count + 2 * SCALES < 2 * count


def scale_bytes(count: int) -> int:
    """Bytes that so many scales take."""
    return count + 2 * SCALES if scales_in_table(count) else 2 * count


INTEGER = "Integer"  # begins the kind of codes that are multiplied as whole numbers


def kind(levels: int, group: int, shape: tuple[int, int], *, masked: bool) -> str:
    """What decides how such a weight is unpacked, as a name: weights of one kind are unpacked by one function."""
    rows, columns = shape
    words = {
        "Masked": masked,
        "Tabled": scales_in_table(rows * -(-columns // group)),
        "Ragged": masked or any(rows * columns % A_BYTE[base] for base in DIGITS[levels]),  # digits of no entry
        "Uneven": columns % group,  # the last group of a row reaches beyond it
    }
    return f"Codes{levels}Of{group}{''.join(word for word, there in words.items() if there)}"
