"""Whether weights are numbers: the bytes of the files read once, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ModelInvalid
from core.findings import Finding, found
from core.looks.budget import Budget
from core.upload import tensors_of, weight_files

PIECE = 1 << 20  # numbers looked at at once
# dtype of a header -> (numpy's of its bits, bits of the exponent): all of them set is infinity or NaN.
EXPONENTS = {"F64": ("<u8", 0x7FF << 52), "F32": ("<u4", 0x7F80_0000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}


def look_at_weights(folder: Path, budget: Budget) -> Iterator[Finding]:
    """Raises ModelInvalid where a weight is NaN or infinite."""
    left = 0
    for path in weight_files(folder):
        begin = 8 + int.from_bytes(path.open("rb").read(8), "little")
        raw = np.memmap(path, dtype=np.uint8, mode="r")
        for name, entry in tensors_of(path).items():
            if budget.over():
                left += 1
            elif entry["dtype"] in EXPONENTS and not _finite(raw, begin, entry):
                raise ModelInvalid(
                    f"{path.name}: tensor {name[:100]!r} holds NaN or infinity", param="/model",
                    finding="weights_not_finite",
                )  # fmt: skip
    if left:
        yield found("not_looked_at", f"{left} tensors were not read for NaN and infinity", "/model",
                    counts={"tensors": left})  # fmt: skip


def _finite(raw: Any, begin: int, entry: dict[str, Any]) -> bool:
    kind, exponent = EXPONENTS[entry["dtype"]]
    start, stop = (begin + offset for offset in entry["data_offsets"])
    width = np.dtype(kind).itemsize
    for at in range(start, stop, PIECE * width):
        # A copy: an offset in a safetensors file need not be a multiple of the width.
        bits = np.frombuffer(raw[at : min(stop, at + PIECE * width)].tobytes(), dtype=kind)
        mask = np.array(exponent, dtype=kind)
        if ((bits & mask) == mask).any():
            return False
    return True
