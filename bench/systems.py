"""Tasks and systems of graded rows: which data, which recipe, which sizes. No sweep imports it, as tests hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from bench.teachers import SCHEDULES
from bench.teachers import SEED as TEACHER_SEED
from core.data import Columns, read, split_indices
from core.inspect import shape_of
from core.metrics import Metric
from core.recipe import PRESETS, Ladder, Recipe, Target
from core.verify import logits

METRICS: dict[str, Metric] = {"cola": "mcc"}


@dataclass(frozen=True)
class Task:
    """A data set prepared for one seed. `select`: rows that the teacher has not seen, where the bench made it."""

    name: str
    train: Path
    eval: Path
    select: Path | None = None

    @property
    def metric(self) -> Metric:
        return METRICS.get(self.name, "accuracy")


def prepare(data: Path, scratch: Path, seed: int, most: int) -> Task:
    """A sample of at most `most` training rows; every row of validation and test together to grade."""
    table, select = parquet.read_table(data / "train.parquet"), None
    if data.name in SCHEDULES:
        rest, chosen = split_indices(len(table), TEACHER_SEED)
        select = scratch / "select.parquet"
        parquet.write_table(table.take(chosen), select)
        table = table.take(rest)
    if len(table) > most:
        table = table.take(np.sort(np.random.default_rng(seed).permutation(len(table))[:most]))
    parts = [data / f"{name}.parquet" for name in ("validation", "test")]
    graded = pa.concat_tables([parquet.read_table(part).select(table.column_names) for part in parts if part.exists()])
    task = Task(data.name, scratch / f"train-{seed}-{most}.parquet", scratch / "graded.parquet", select)
    parquet.write_table(table, task.train)
    parquet.write_table(graded, task.eval)
    return task


def predictions(folder: Path, teacher: Path, task: Task) -> Mapping[str, list[int]]:
    """Class per graded row by the downloaded file, beside the true one: paired tests need both."""
    asked = read(task.eval, "eval", Columns(), shape_of(teacher)[1])
    found = logits("onnx", folder, asked.inputs(), max_length=512, threads=1)
    return {"predictions": found.logits.argmax(axis=1).tolist(), "labels": asked.labels}


@dataclass(frozen=True)
class System:
    """What a row is named after: a preset, or a recipe of the bench; and the sizes that one job makes of it.

    `rows`: training rows at most. What is compared is CPU-seconds, and a step costs each system its own.
    `preset`: where it is not the name. `minutes`: target.max_minutes.
    """

    name: str
    ladder: tuple[float, ...] = ()
    rows: int = 16_000
    recipe: Recipe | None = None
    preset: str = ""
    minutes: float | None = None
    axis: str = "parameter_ratio"

    @property
    def names(self) -> list[str]:
        """One for each point."""
        return [f"{self.name}@{ratio:g}" for ratio in self.ladder] or [self.name]

    def asked(self) -> tuple[Recipe, Target]:
        """Recipe and target before the plan fills them."""
        own = Target.model_validate({} if self.minutes is None else {"max_minutes": self.minutes})
        if self.recipe is not None:
            return self.recipe, own
        preset = PRESETS[self.preset or self.name]
        return preset.recipe, preset.asked(own, Ladder.model_validate(self.ladder_of() or {}))

    def ladder_of(self) -> dict[str, list[float]] | None:
        """As a request has it."""
        return {self.axis: list(self.ladder)} if self.ladder else None


ROWS = 20_000
LADDER = (2.5, 5.0, 10.0, 20.0)
BYTES = (4.0, 8.0, 12.0, 20.0, 30.0)
TIMES = (2.0, 3.0, 4.0, 6.0)
DISTILL = {"method": "distill"}


def _recipe(*steps: dict[str, Any]) -> Recipe:
    return Recipe.model_validate({"steps": steps})


def _system(name: str, *steps: dict[str, Any]) -> System:
    return System(name, (5.0, 10.0), ROWS, _recipe(*steps))


FEW = 10_000
ENOUGH = {"method": "distill", "epochs": 1.5, "min_steps": 300}
UNTRAINED = {"method": "distill", "max_rows": 32, "epochs": 0.01, "learning_rate": 1e-12}
SEARCH = {"method": "mixed_bits"}


def _few(name: str, *steps: dict[str, Any], ladder: tuple[float, ...] = ()) -> System:
    return System(name, ladder, FEW, _recipe(*steps), axis="bytes_ratio")


SYSTEMS = {
    "hybrid": System("hybrid", LADDER, rows=ROWS),
    "ladabert": System("ladabert", LADDER),
    "small": System("small", BYTES, rows=ROWS, axis="bytes_ratio"),
    "fast": System("fast", TIMES, rows=ROWS, axis="latency_ratio"),
    "hybrid@5": System("hybrid", (5.0,)),
    "small@8": System("small", (8.0,), axis="bytes_ratio"),
    # What long texts cost in a pass over all rows, a budget keeps: the schedule ends when the time does.
    "hybrid-8-minutes": System("hybrid-8-minutes", (5.0,), preset="hybrid", minutes=8.0),
    "small-6-minutes": System("small-6-minutes", (8.0,), preset="small", minutes=6.0, axis="bytes_ratio"),
    "low-rank-plus-sparse": _system("low-rank-plus-sparse", {"method": "low_rank_sparse"}, DISTILL),
    "plain-svd": _system("plain-svd", {"method": "svd"}, DISTILL),
    "magnitude": _system("magnitude", {"method": "magnitude"}, DISTILL),
    "untrained": System("untrained", (2.5,), ROWS, _recipe({"method": "obs", "when": "once"})),
    # Two bits and less, some 600 CPU-seconds each: systems of papers, what they say they beat, ours at their bytes.
    "ternarybert": System("ternarybert", rows=FEW),
    "binarybert": System("binarybert", rows=FEW),
    "aqbert": System("aqbert", (18.0,), rows=FEW, axis="bytes_ratio"),
    "small@18": System("small", (18.0,), rows=FEW, axis="bytes_ratio"),
    "ternary": _few("ternary", {"method": "ternary"}, ENOUGH),
    "ternary-rounded": _few("ternary-rounded", {"method": "ternary"}, UNTRAINED),
    "binary": _few("binary", {"method": "binary"}, ENOUGH),
    "uniform-1.6": _few("uniform-1.6", {"method": "gptq", "bits": 1.6}, ENOUGH),
    "gumbel": _few("gumbel", {**SEARCH, "search": "gumbel"}, ENOUGH, ladder=(18.0,)),
    "closed-form": _few("closed-form", {**SEARCH, "search": "closed_form"}, ENOUGH, ladder=(18.0,)),
    **{name: System(name) for name in ("ladabert-1", "ladabert-2", "ladabert-3", "ladabert-4")},
}
