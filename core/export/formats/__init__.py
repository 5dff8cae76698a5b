"""Files beside the two forms, on request, and how far each may be from the student.

Every format is one module with a `twin`, the student in memory as this format rounds it, and a `write` of that twin.
The law (`allowance`): a file may be as far from the student as its twin is, and from its twin as far as two runs of
the same rounding may be. So what a format costs is measured on the student at hand and never guessed; what that does
to the metric is measured on the file itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from core import parity
from core.batches import Split
from core.errors import VerificationFailed
from core.export.formats import fp16, int8, openvino, program
from core.outputs import FORMATS, Output
from core.parity import Expected
from core.phase import Build


class Writer(Protocol):
    """rounds: two runs of the twin may be as far apart as rounding moves it, and `core.parity` does not know."""

    rounds: bool

    def twin(self, build: Build) -> Build:
        """The student as the format rounds it: a copy, on the CPU."""
        ...

    def write(self, twin: Build, path: Path) -> None:
        """The file, and what lies beside it. Raises ExportFailed where it cannot be written."""
        ...


WRITERS: dict[Output, Writer] = {
    "onnx-fp16": cast(Writer, fp16),
    "onnx-int8": cast(Writer, int8),
    "openvino": cast(Writer, openvino),
    "torch-export": cast(Writer, program),
}


def write(build: Build, outputs: Sequence[Output], folder: Path) -> None:
    """Write the formats that were asked for. Raises ExportFailed where one cannot be written."""
    for name in outputs:
        path = folder / FORMATS[name].path
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[name].write(WRITERS[name].twin(build), path)


def allowances(
    build: Build, outputs: Sequence[Output], sample: Split, ids: list[list[int]], on_rows: Expected, on_ids: Expected
) -> dict[str, tuple[float, float]]:
    """`allowance` of every format, by the path of its file: on the rows of `sample`, on `ids`.

    Args:
        on_rows, on_ids: the student's answers.
    """
    found = {}
    for name in outputs:
        twin = WRITERS[name].twin(build).model
        found[FORMATS[name].path] = (
            allowance(name, on_rows, parity.on_rows(twin, sample)),
            allowance(name, on_ids, parity.on_ids(twin, ids)),
        )
    return found


def allowance(name: Output, student: Expected, twin: Expected) -> float:
    """How far logits of the file may be from the student's.

    Raises:
        VerificationFailed: the twin's are not finite: numbers of the student are beyond the format.
    """
    moved = float(np.abs(twin.logits - student.logits).max(initial=0.0))
    if not np.isfinite(moved):
        raise VerificationFailed(
            f"outputs {name!r}: the student's logits are not finite in this format ({moved}); leave it out"
        )
    return moved + max(twin.tolerance, moved if WRITERS[name].rounds else 0.0)
