"""A weight on a grid as it is stored: codes in digits, levels, scales, and a bitmap where entries are masked.

Entry (i, j) is levels[code] x scales[i, j // group], both fp16; masked entries are zero and have no code. Codes
stand in row-major order (`core.codes`). Scales are fp16 numbers, or places in a table of them where that is smaller.
Both delivered forms store exactly these arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from core import codes
from core.export import digits
from core.export.digits import BYTES
from core.export.pack import Packed, pack, unpack

HALF = npt.NDArray[np.float16]
FLOAT = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Coded:
    """words: one byte array for each digit; levels: (k,); bitmap as in `Packed`, or None.

    scales: (rows, groups), themselves or as places in `table` (SCALES,).
    """

    words: tuple[BYTES, ...]
    levels: HALF
    scales: HALF | BYTES
    table: HALF | None
    bitmap: BYTES | None
    group: int
    shape: tuple[int, int]

    @property
    def size_bytes(self) -> int:
        return sum(array.nbytes for array in self.parts().values())

    @property
    def entries(self) -> int:
        """How many have a code."""
        rows, columns = self.shape
        return rows * columns if self.bitmap is None else int(np.unpackbits(self.bitmap).sum())

    def parts(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by the suffixes of their names in a file."""
        bitmap = {} if self.bitmap is None else {"bitmap": self.bitmap}
        words = {f"codes{place}": word for place, word in enumerate(self.words)}
        table = {} if self.table is None else {"table": self.table}
        return {**bitmap, **words, "levels": self.levels, **table, "scales": self.scales}


def code(
    chosen: npt.NDArray[Any], levels: FLOAT, scales: FLOAT, group: int, mask: npt.NDArray[np.bool_] | None
) -> Coded:
    """Store the numbers of the levels that were chosen (rows, columns).

    Raises:
        ValueError: levels or scales are not fp16 numbers (the file would hold another weight), scales are more numbers
            than their table holds, or shapes differ.
    """
    rows, columns = chosen.shape
    if scales.shape != (rows, -(-columns // group)) or (mask is not None and mask.shape != chosen.shape):
        raise ValueError(f"scales {scales.shape} in groups of {group}, mask or codes {chosen.shape}: shapes differ")
    for what, array in (("levels", levels), ("scales", scales)):
        if not np.array_equal(array.astype(np.float16).astype(np.float32), array):
            raise ValueError(f"{what} are not fp16 numbers")
    bitmap = None
    if mask is not None and not mask.all():
        survivors: Packed = pack(np.where(mask, chosen + 1, 0), mask)
        bitmap, chosen = survivors.bitmap, survivors.values - 1
    words = digits.encode(chosen, len(levels))
    return Coded(words, levels.astype(np.float16), *_tabled(scales), bitmap, group, (rows, columns))


def _tabled(scales: FLOAT) -> tuple[HALF | BYTES, HALF | None]:
    """Scales as they are stored, and their table or None."""
    if not codes.scales_in_table(scales.size):
        return scales.astype(np.float16), None
    used, places = np.unique(scales, return_inverse=True)
    if len(used) > codes.SCALES:
        raise ValueError(f"{len(used)} different scales; a table holds {codes.SCALES}")
    table = np.zeros(codes.SCALES, np.float16)
    table[: len(used)] = used
    return places.reshape(scales.shape).astype(np.uint8), table


def decode(coded: Coded) -> FLOAT:
    """The weight (rows, columns). Raises ValueError where the arrays do not fit together."""
    rows, columns = coded.shape
    values = coded.levels.astype(np.float32)[digits.decode(coded.words, len(coded.levels), coded.entries)]
    if coded.bitmap is not None:
        values = unpack(Packed(coded.bitmap, values, coded.shape))
    scales = (coded.scales if coded.table is None else coded.table[coded.scales]).astype(np.float32)
    if scales.shape != (rows, -(-columns // coded.group)):
        raise ValueError(f"scales {scales.shape} for {coded.shape} in groups of {coded.group}")
    found: FLOAT = values.reshape(coded.shape) * np.repeat(scales, coded.group, axis=1)[:, :columns]
    return found
