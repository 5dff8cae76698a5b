"""Everything the report says of one delivered point, read off its files by processes that know only them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from core.batches import FLOAT, Split, predict
from core.data import Rows
from core.export import artifact
from core.measure import at_reference, latency
from core.metrics import Metric, score
from core.phase import Build
from core.plan import ModelShape, misses, size_of
from core.recipe import Recipe, Target
from core.report import Parity, Point, Sizes
from core.surgery import plain_inputs, rounding_inputs
from core.verify import check, logits

PARITY_ROWS = 64
FORMS: tuple[tuple[Literal["onnx", "torch"], str], ...] = (("onnx", "model.onnx"), ("torch", "pytorch"))
PARITY_TOLERANCE = 1e-3  # absolute, on logits: fp32 kernels in another order differ by about 1e-5


@dataclass(frozen=True)
class Yardstick:
    """What every point of a job is measured against, and on: the teacher as a file, its figures, the rows."""

    folder: Path  # the teacher, exported as a student is
    metric: Metric
    score: float  # the teacher's, on eval
    bytes_in_memory: int
    shape: ModelShape
    select: Split
    eval: Rows
    max_tokens: int
    threads: int
    seed: int

    @cached_property
    def bytes_sent(self) -> int:
        """Of the teacher's file; once for all points."""
        return artifact.bytes_sent(self.folder / "model.onnx")


def measure(against: Yardstick, folder: Path, build: Build, recipe: Recipe, target: Target) -> Point:
    """Load both forms, compare them with the student in memory (on the CPU), measure accuracy, sizes and latency."""
    student, shape = build.model, against.shape
    sample = against.select.sample(PARITY_ROWS, against.seed)
    expected, tolerance, alone = _expected(student, sample)
    parity: list[Parity] = []
    scores: dict[str, float] = {}
    memory = 0
    for kind, name in FORMS:
        # One process per file answers both questions: is it the student, and how good is it.
        rows = sample.rows.inputs() + against.eval.inputs()
        run = logits(kind, folder, rows, max_length=against.max_tokens, threads=against.threads, alone=alone)
        near = replace(run, logits=run.logits[: len(sample)])
        parity.append(check(name, expected, near, tolerance=tolerance))
        scores[name] = score(against.metric, run.logits[len(sample) :], against.eval.labels)
        memory = run.bytes_in_memory if kind == "onnx" else memory
    timed = latency(against.folder / "model.onnx", folder / "model.onnx", vocabulary=shape.vocabulary, threads=1)
    parameters = sum(p.numel() for p in student.parameters())
    nonzero = parameters - sum(int((~mask).sum()) for mask in build.masks.values())
    disk = artifact.sizes(folder)
    reference = at_reference(timed)
    reached = {
        "parameter_ratio": shape.parameters / nonzero,
        "bytes_ratio": 4 * shape.parameters / disk["model.onnx"],
        "latency_ratio": reference.ratio,
        "max_bytes": float(disk["model.onnx"]),
        "max_nonzero": float(nonzero),
        "max_latency_ms": reference.student_ms_p50,
        "min_retention": scores["model.onnx"] / against.score if against.score > 0 else 0.0,
    }
    shortfall = misses(target.given(), reached)
    return Point(
        parameter_ratio=reached["parameter_ratio"],
        bytes_ratio=reached["bytes_ratio"],
        latency_ratio=reached["latency_ratio"],
        metric=against.metric,
        teacher=against.score,
        student=scores["model.onnx"],
        retention=reached["min_retention"],
        target=target.given(),
        target_met=not shortfall,
        shortfall=shortfall,
        sizes=Sizes(
            parameters=parameters,
            nonzero=nonzero,
            bytes_on_disk=disk,
            bytes_in_memory=memory,
            bytes_sent=artifact.bytes_sent(folder / "model.onnx"),
        ),
        sizes_teacher=Sizes(
            parameters=shape.parameters,
            nonzero=shape.parameters,
            bytes_on_disk=artifact.sizes(against.folder),
            bytes_in_memory=against.bytes_in_memory,
            bytes_sent=against.bytes_sent,
        ),
        planned_bytes=size_of(recipe, shape).size_bytes,
        latency=timed,
        parity=tuple(parity),
        student_by_file=scores,
    )


def _expected(student: nn.Module, sample: Split) -> tuple[FLOAT, float, int]:
    """The student's logits, how far those of a file may be from them, and how many rows want a batch of their own.

    Where inputs are rounded, a difference of fp32 kernels may turn a rounding, and that one the next: two runs of the
    same model are about as far apart as each is from the model without rounding, which is what is allowed. And the
    rows of one batch share a scale, so each is compared alone.
    """
    cpu = torch.device("cpu")
    dynamic = list(rounding_inputs(student).values())
    if not dynamic:
        return predict(student, sample, cpu), PARITY_TOLERANCE, 0
    rounded = predict(student, sample, cpu, batch_size=1)
    with plain_inputs(student):
        plain = predict(student, sample, cpu, batch_size=1)
    return rounded, max(PARITY_TOLERANCE, float(np.abs(rounded - plain).max())), len(sample)
