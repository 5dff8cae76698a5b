"""`parity.json`: inputs that an artifact carries, and what the student answered before it was packed.

The inputs are token ids drawn by seed, never rows of the user's data: an artifact may be published.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from core.batches import FLOAT, Split, predict
from core.forward import logits_of
from core.surgery import plain_inputs, rounding_inputs

FILE = "parity.json"
ROWS, LONGEST = 16, 128
TOLERANCE = 1e-3  # absolute, on logits: fp32 kernels in another order differ by about 1e-5


@dataclass(frozen=True)
class Expected:
    """Outputs of the student in memory, as `core.batches.predict` gives them, and how far a file's may be."""

    logits: FLOAT
    tolerance: float


def drawn(vocabulary: int, max_tokens: int, pad_id: int, seed: int) -> list[list[int]]:
    """ROWS rows of token ids, 2 to LONGEST long. None is the padding token: some families count places by it."""
    rng = np.random.default_rng(seed)
    lengths = np.geomspace(2, max(2, min(LONGEST, max_tokens)), ROWS).round().astype(int)
    ids = np.delete(np.arange(vocabulary), pad_id)
    return [rng.choice(ids, length).tolist() for length in lengths]


def on_ids(student: nn.Module, ids: list[list[int]]) -> Expected:
    """Of rows of token ids on the CPU, each run alone."""

    def run() -> FLOAT:
        with torch.no_grad():
            found = [logits_of(student(input_ids=torch.tensor([row]))).float().numpy() for row in ids]
        return np.concatenate([one if one.ndim == 2 else one[0] for one in found])

    return _expected(student, run)


def on_rows(student: nn.Module, sample: Split) -> Expected:
    """Of texts, each run alone."""
    return _expected(student, lambda: predict(student, sample, torch.device("cpu"), batch_size=1))


def _expected(student: nn.Module, run: Callable[[], FLOAT]) -> Expected:
    """Where inputs are rounded, a difference of fp32 kernels may turn a rounding, and that one the next: two runs of
    the same model may be as far apart as the two are from the model without rounding together. How far one is has been
    seen, so twice that is allowed. And the rows of one batch share a scale, so each is compared alone.
    """
    logits = run()
    if not rounding_inputs(student):
        return Expected(logits, TOLERANCE)
    with plain_inputs(student):
        plain = run()
    return Expected(logits, max(TOLERANCE, 2 * float(np.abs(logits - plain).max())))


def write(
    folder: Path, ids: list[list[int]], expected: Expected, forms: tuple[str, ...], lossy: Mapping[str, float]
) -> None:
    """What `verify.py` reads. lossy: tolerances of forms that have their own."""
    content = {
        "input_ids": ids,
        "logits": [[float(value) for value in row] for row in expected.logits],
        "tolerance": dict.fromkeys(forms, expected.tolerance) | dict(lossy),
    }
    (folder / FILE).write_text(json.dumps(content) + "\n", encoding="utf-8")
