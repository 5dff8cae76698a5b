"""Latency of two ONNX files in interleaved pairs, in a fresh process that holds only the runtime and numpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.measure.timed import TOKENS
from core.report import Latency
from core.verify import run_isolated
from core.verify.closure import closure

SCRIPT = Path(__file__).with_name("timed.py")
REFERENCE = (1, 128)  # (batch, tokens) that targets and tables speak of
# In the order of measuring: the two that every report holds come first.
ALWAYS = (REFERENCE, (1, 32))
GRID = (*ALWAYS, (8, 32), (32, 32), (8, 128), (32, 128))
PAIRS, WARM_UP = 21, 3


def latency(
    teacher: Path, student: Path, *, vocabulary: int, threads: int = 1, pairs: int = PAIRS, budget_s: float = 60.0
) -> tuple[Latency, ...]:
    """Median milliseconds of both files over `pairs` interleaved pairs after warm-up, cell by cell of GRID.

    Args:
        vocabulary: tokens that both models know.
        threads: of the runtime. Compare only rows of equal threads.
        pairs: per cell; the median of fewer than 20 is not reported.
        budget_s: wall seconds; a cell that would not end in time is left out, but ALWAYS is measured.

    Raises:
        VerificationFailed: a file does not load or run.
    """
    if pairs < 20:
        raise ValueError(f"{pairs} pairs: a median needs at least 20")
    found = in_turns(
        teacher, [student], GRID, always=len(ALWAYS), vocabulary=vocabulary, threads=threads, pairs=pairs,
        budget_s=budget_s,
    )  # fmt: skip
    rows = []
    for batch, tokens in GRID:
        if (seconds := found.get((0, batch, tokens))) is None:
            continue
        slow, fast = (float(value) for value in 1e3 * np.median(seconds, axis=0))
        rows.append(
            Latency(
                batch=batch,
                tokens=tokens,
                threads=threads,
                pairs=pairs,
                teacher_ms_p50=slow,
                student_ms_p50=fast,
                ratio=slow / fast,
            )
        )
    return tuple(rows)


def in_turns(
    teacher: Path,
    students: Sequence[Path],
    grid: Sequence[tuple[int, int]],
    *,
    always: int,
    vocabulary: int,
    threads: int,
    pairs: int,
    budget_s: float = 0.0,
) -> dict[tuple[int, int, int], npt.NDArray[np.float64]]:
    """(student's number, batch, tokens) -> seconds (pairs, 2) of the teacher and the student, one after the other.

    Args: as of `latency`; the first `always` cells of the grid take no notice of the budget.
    """
    order = {
        "teacher": str(teacher.resolve()),
        "students": [str(student.resolve()) for student in students],
        "threads": threads,
        "pairs": pairs,
        "warm_up": WARM_UP,
        "grid": grid,
        "always": always,
        "budget_s": budget_s,
        "ids": min(TOKENS, vocabulary),
    }
    found = run_isolated(SCRIPT, order, closure(("onnxruntime", "numpy")), threads=threads)
    cells = [(number, *cell) for number in range(len(students)) for cell in grid]
    return {(n, b, t): found[f"{n}.{b}x{t}"] for n, b, t in cells if f"{n}.{b}x{t}" in found}


def at_reference(timed: Iterable[Latency]) -> Latency:
    """The row of REFERENCE, which is always measured."""
    return next(row for row in timed if (row.batch, row.tokens) == REFERENCE)
