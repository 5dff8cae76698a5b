"""Everything the report says of one delivered point, read off its files by processes that know only them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from core import parity
from core.batches import FLOAT, Split
from core.compare import compare
from core.data import Rows
from core.export import artifact, formats
from core.measure import at_reference, latency
from core.outputs import FORMATS, Output
from core.phase import Build
from core.plan import ModelShape, misses, size_of
from core.recipe import Recipe, Target
from core.report import Comparison, Parity, Point, Sizes
from core.task import Metric
from core.tasks import Answers
from core.verify import check, logits

PARITY_ROWS = 64
FORMS: tuple[tuple[Literal["onnx", "torch"], str], ...] = (("onnx", "model.onnx"), ("torch", "pytorch"))


@dataclass(frozen=True)
class Yardstick:
    """What every point of a job is measured against, and on: the teacher as a file, its figures, the rows."""

    folder: Path  # the teacher, exported as a student is
    metric: Metric
    score: float  # the teacher's, on eval
    outputs: FLOAT  # the same rows'
    bytes_in_memory: int
    shape: ModelShape
    select: Split
    eval: Rows  # as the model takes them: two texts to be embedded are two
    answers: Answers  # how outputs on eval are read
    max_tokens: int
    pad_id: int
    threads: int
    seed: int

    @cached_property
    def bytes_sent(self) -> int:
        """Of the teacher's file; once for all points."""
        return artifact.bytes_sent(self.folder / "model.onnx")


def measure(
    against: Yardstick, folder: Path, build: Build, recipe: Recipe, target: Target, outputs: Sequence[Output] = ()
) -> tuple[Point, Comparison]:
    """Load both forms and what was asked for beside them, compare them with the student in memory (on the CPU),
    measure accuracy, sizes and latency.

    Writes `parity.json`.
    """
    student, shape = build.model, against.shape
    sample = against.select.sample(PARITY_ROWS, against.seed)
    rows = sample.rows.inputs() + against.eval.inputs()
    ids = parity.drawn(shape.vocabulary, against.max_tokens, against.pad_id, against.seed)
    expected, of_ids = parity.on_rows(student, sample), parity.on_ids(student, ids)
    allowed = formats.allowances(build, outputs, sample, ids, expected, of_ids)
    lossy = {name: on_ids for name, (_, on_ids) in allowed.items()}
    parity.write(folder, ids, of_ids, tuple(name for _, name in FORMS), lossy)
    proved: list[Parity] = []
    found: dict[str, FLOAT] = {}
    memory = 0
    for kind, name in (*FORMS, *((output, FORMATS[output].path) for output in outputs)):
        # One process per file answers both questions: is it the student, and how good is it.
        run = logits(
            kind, folder, rows, max_length=against.max_tokens, threads=against.threads, alone=len(sample), ids=ids,
            task=shape.task,
        )  # fmt: skip
        on_rows, on_ids = allowed.get(name, (expected.tolerance, of_ids.tolerance))
        check(name, of_ids.logits, replace(run, logits=run.of_ids), tolerance=on_ids)
        near = replace(run, logits=run.logits[: run.alone])
        proved.append(check(name, expected.logits, near, tolerance=on_rows))
        found[name] = run.logits[run.alone :]
        memory = run.bytes_in_memory if kind == "onnx" else memory
    read = against.answers
    scores = {name: read.score(against.metric, read.guess(outputs)) for name, outputs in found.items()}
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
    point = Point(
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
        parity=tuple(proved),
        student_by_file=scores,
        agreement_by_file={name: read.agreement(found[name], found["model.onnx"]) for name in allowed},
    )
    return point, compare(against.metric, against.outputs, found["model.onnx"], read, against.seed)
