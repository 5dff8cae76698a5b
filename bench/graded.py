"""The one file of bench/ that opens graded rows: a frozen preset goes in, one JSON row per (system, task, seed) out.

Rows run through the service, as a user's job does: upload, submit, wait, download. No sweep imports this module
(tests/bench holds it), so no default was ever chosen by looking at graded rows.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from ladapress.client import Client
from pyarrow import parquet

from bench.reference import measure, r0
from core.catalogue import METHODS
from core.data import Columns, digest, read
from core.inspect import shape_of
from core.plan import fill
from core.recipe import PRESETS
from core.verify import logits

RESULTS = Path(__file__).with_name("results")
TRAIN_ROWS = 16_000
TO_EXPORT = ("plan", "teacher", "factorize", "prune", "quantize", "distill", "export")


@dataclass(frozen=True)
class Task:
    """A data set prepared for one seed: at most TRAIN_ROWS training rows; validation and test together to grade."""

    name: str
    train: Path
    eval: Path


def prepare(data: Path, scratch: Path, seed: int) -> Task:
    """Cut the training rows by seed and join the graded rows; `data` holds train, validation and test parquet."""
    table = parquet.read_table(data / "train.parquet")
    if len(table) > TRAIN_ROWS:
        table = table.take(np.sort(np.random.default_rng(seed).permutation(len(table))[:TRAIN_ROWS]))
    parts = [data / f"{name}.parquet" for name in ("validation", "test")]
    graded = pa.concat_tables([parquet.read_table(part).select(table.column_names) for part in parts if part.exists()])
    task = Task(data.name, scratch / f"train-{seed}.parquet", scratch / "graded.parquet")
    parquet.write_table(table, task.train)
    parquet.write_table(graded, task.eval)
    return task


def fingerprint(teacher: Path, task: Task, system: str, seed: int) -> str:
    """Of everything that decides a row's numbers: recipe as resolved, inputs, seed, versions of the mechanisms."""
    preset = PRESETS[system]
    recipe = fill(preset.recipe, preset.target, shape_of(teacher)[0])
    parts = {
        "recipe": recipe.model_dump(mode="json"),
        "versions": {step.name(): METHODS[step.name()].version for step in recipe.steps},
        "teacher": digest(teacher / "model.safetensors"),
        "data": [digest(task.train), digest(task.eval)],
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def row_path(task: str, system: str, seed: int) -> Path:
    return RESULTS / task / f"{system}.seed{seed}.json"


def run(client: Client, teacher: Path, task: Task, system: str, seed: int, scratch: Path) -> dict[str, Any]:
    """One row, through the service; taken from `bench/results` where its fingerprint is unchanged."""
    path, mark = row_path(task.name, system, seed), fingerprint(teacher, task, system, seed)
    if path.exists() and (old := json.loads(path.read_text(encoding="utf-8")))["fingerprint"] == mark:
        return dict(old)
    r = measure(teacher)
    model = client.models.upload(teacher)
    train, graded = client.datasets.upload(task.train), client.datasets.upload(task.eval)
    job = client.jobs.create(model=model.id, train=train.id, eval=graded.id, preset=system, seed=seed)
    print(f"{system} seed {seed}: {job.id}", flush=True)
    job = client.jobs.wait(job.id)
    if job.status != "succeeded":
        raise RuntimeError(f"{system}: {job.id} {job.status}: {job.error}")
    folder = scratch / job.id
    client.artifacts.download(job.points[0].artifact_id, folder)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    cpu = sum(stage["cpu_s"] for stage in report["stages"] if stage["name"] in TO_EXPORT)
    row = {
        "system": system,
        "task": task.name,
        "seed": seed,
        "fingerprint": mark,
        "git_sha": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--", "core", "bench")),
        "teacher_digest": digest(teacher / "model.safetensors"),
        "cpu_s": cpu,
        "cpu_s_scaled": cpu * r0() / r,
        "reference_cpu_s": r,
        **_predictions(folder, teacher, task),
        "report": report,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return row


def _predictions(folder: Path, teacher: Path, task: Task) -> Mapping[str, list[int]]:
    """Class per graded row by the downloaded file, beside the true one: paired tests need both."""
    rows = read(task.eval, "eval", Columns(), shape_of(teacher)[1])
    found = logits("onnx", folder, rows.inputs(), max_length=512, threads=1)
    return {"predictions": found.logits.argmax(axis=1).tolist(), "labels": rows.labels}


def _git(*command: str) -> str:
    root = Path(__file__).parent
    return subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
