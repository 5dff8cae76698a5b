"""Masked tensors in fewer bytes: one bit an entry, then the survivors. Exact both ways.

The bitmap holds the entries in row-major order, entry i in bit i % 8 of byte i // 8 (little bit order), zero-padded to
a whole byte. The survivors follow in the same order. Both delivered forms store exactly these two arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from core.method import Tensor


@dataclass(frozen=True)
class Packed:
    """A masked tensor as it is stored."""

    bitmap: npt.NDArray[np.uint8]  # (ceil(entries / 8),)
    values: npt.NDArray[Any]  # (survivors,)
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return self.bitmap.nbytes + self.values.nbytes


def pays(entries: int, kept: int, bits: int = 32) -> bool:
    """Whether bitmap + survivors are smaller than the dense tensor: the rule that the plan counts by."""
    return Tensor("", 1, entries, kept, "fixed", bits).size_bytes < -(-entries * bits // 8)


def pack(weight: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> Packed:
    """Pack `weight`; entries where `mask` is False must be zero already.

    Raises:
        ValueError: shapes differ, or a masked entry is not zero (the packed tensor would compute something else).
    """
    if weight.shape != mask.shape:
        raise ValueError(f"mask of shape {mask.shape} on a tensor of shape {weight.shape}")
    flat, bits = weight.reshape(-1), mask.reshape(-1)
    if wrong := int((flat[~bits] != 0).sum()):
        raise ValueError(f"{wrong} of {flat.size - int(bits.sum())} masked entries are not zero")
    return Packed(np.packbits(bits, bitorder="little"), flat[bits], weight.shape)


def unpack(packed: Packed) -> npt.NDArray[Any]:
    """The dense tensor. Raises ValueError where bitmap, survivors and shape do not fit together."""
    entries = int(np.prod(packed.shape, dtype=np.int64))
    if packed.bitmap.shape != (-(-entries // 8),):
        raise ValueError(f"bitmap of {packed.bitmap.size} bytes for {entries} entries")
    bits = np.unpackbits(packed.bitmap, bitorder="little")
    if bits[entries:].any() or packed.values.shape != (int(bits.sum()),):
        raise ValueError(f"bitmap marks {int(bits.sum())} survivors, {packed.values.size} are stored")
    dense = np.zeros(entries, dtype=packed.values.dtype)
    dense[bits[:entries].astype(bool)] = packed.values
    return dense.reshape(packed.shape)
