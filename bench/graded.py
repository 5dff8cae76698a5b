"""The one file of bench/ that opens graded rows: a frozen preset goes in, one JSON row per (system, task, seed) out.

Rows run through the service, as a user's job does: upload, submit, wait, download. No sweep imports this module
(tests/bench holds it), so no default was ever chosen by looking at graded rows.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ladapress.client import Client

from bench import own_runtime, rows
from bench.made import Made, Material
from bench.reference import measure, r0
from bench.systems import System, Task, predictions
from core.batches import Split, load_tokenizer
from core.catalogue import METHODS
from core.data import Columns, digest, read, split_select
from core.inspect import shape_of
from core.measure import at_reference, hardware, latency
from core.measure.timed import TOKENS
from core.metrics import score
from core.plan import fill
from core.profile import VERSION
from core.progress import cpu_seconds
from core.recipe import Ladder
from core.verify import logits

# The teacher's own figures on graded rows are verification, as the student's are.
TO_EXPORT = ("plan", "prepare", "profile", "factorize", "prune", "quantize", "distill", "export")


def fingerprint(teacher: Path, task: Task, system: System, seed: int) -> str:
    """Of everything that decides a job's numbers: recipes as resolved, inputs, seed, versions of the mechanisms."""
    recipe, target = system.asked()
    targets = Ladder.model_validate(system.ladder_of() or {}).targets(target)
    recipes = [fill(recipe, target, shape_of(teacher)[0]) for target in targets]
    parts = {
        "recipes": [recipe.model_dump(mode="json") for recipe in recipes],
        "versions": {step.name(): METHODS[step.name()].version for step in recipe.steps},
        "teacher": digest(teacher / "model.safetensors"),
        "data": [digest(task.train), digest(task.eval)],
        "seed": seed,
        **({} if system.minutes is None else {"minutes": system.minutes}),
        # What is left to the job is decided by the target and by what the profile says.
        **(
            {"targets": [each.given() for each in targets], "profile": VERSION}
            if any(recipe.open_for(each) for recipe, each in zip(recipes, targets, strict=True))
            else {}
        ),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def row_path(task: str, name: str, seed: int) -> Path:
    return rows.RESULTS / task / f"{name}.seed{seed}.json"


def run(client: Client, teacher: Path, task: Task, system: System, seed: int, scratch: Path) -> list[dict[str, Any]]:
    """The rows of one job, through the service; from `bench/results` where their fingerprint is unchanged."""
    paths, mark = [row_path(task.name, name, seed) for name in system.names], fingerprint(teacher, task, system, seed)
    before = [rows.read(path) for path in paths if path.exists()]
    if len(before) == len(paths) and all(row["fingerprint"] == mark for row in before):
        return before
    r = measure(teacher)
    model = client.models.upload(teacher)
    train, graded = client.datasets.upload(task.train), client.datasets.upload(task.eval)
    job = client.jobs.create(
        model=model.id,
        train=train.id,
        eval=graded.id,
        preset=(system.preset or system.name) if system.recipe is None else None,
        recipe=None if system.recipe is None else system.recipe.model_dump(mode="json"),
        target=None if system.minutes is None else {"max_minutes": system.minutes},
        ladder=system.ladder_of(),
        seed=seed,
        metric=task.metric,
        cache="bypass",  # its cost is a figure of the row
        select=None if task.select is None else client.datasets.upload(task.select).id,
    )
    print(f"{', '.join(system.names)} seed {seed}: {job.id}", flush=True)
    job = client.jobs.wait(job.id)
    if job.status != "succeeded":
        raise RuntimeError(f"{system}: {job.id} {job.status}: {job.error}")
    if job.cache_hit:
        raise RuntimeError(f"{system}: {job.id} trained nothing: it was given what an equal job had made")
    folders = [scratch / point.artifact_id for point in job.points]
    for point, folder in zip(job.points, folders, strict=True):
        client.artifacts.download(point.artifact_id, folder)
    reports = [json.loads((folder / "report.json").read_text(encoding="utf-8")) for folder in folders]
    whole = job_cpu_s(reports)
    found = []
    for name, path, folder, report in zip(system.names, paths, folders, reports, strict=True):
        row = {
            **_stamp(name, teacher, task, seed, mark),
            "cpu_s": job_cpu_s([report]),  # what this point alone would have cost
            "cpu_s_scaled": job_cpu_s([report]) * r0() / r,
            "job": job.id,
            "job_cpu_s": whole,
            "job_cpu_s_scaled": whole * r0() / r,
            "reference_cpu_s": r,
            **predictions(folder, teacher, task),
            "report": report,
        }
        rows.write(path, row)
        found.append(row)
    return found


def run_file(
    name: str, make: Callable[[Material, Path], Made], teacher: Path, task: Task, seed: int, scratch: Path
) -> dict[str, Any]:
    """The row of a baseline or a peer, measured on its file as a delivered student is."""
    path = row_path(task.name, name, seed)
    source = inspect.getsource(inspect.getmodule(make) or make)
    parts = [digest(teacher / "model.safetensors"), digest(task.train), digest(task.eval), source, name, str(seed)]
    mark = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    if path.exists() and (old := rows.read(path))["fingerprint"] == mark:
        return old
    shape, labels = shape_of(teacher)
    train = read(task.train, "train", Columns(), labels)
    if task.select is None:
        train, select = split_select(train, seed)
    else:
        select = read(task.select, "select", Columns(), labels)
    r = measure(teacher)
    torch.manual_seed(seed)
    begun = cpu_seconds()
    given = Material(teacher, train, select, seed, scratch / name)
    made = make(given, scratch / name / "made")
    spent = cpu_seconds() - begun
    graded_rows = read(task.eval, "eval", Columns(), labels)
    if made.runtime == "onnx":
        file = made.folder / "model.onnx"
        found, theirs = (
            logits("onnx", folder, graded_rows.inputs(), max_length=512, threads=1).logits
            for folder in (made.folder, given.exported)
        )
        timed = latency(given.exported / "model.onnx", file, vocabulary=TOKENS, threads=1)
        ratio, size = at_reference(timed).ratio, file.stat().st_size
    else:
        file, plain = made.folder / "model.xml", given.exported / "model.onnx"
        split = Split.encode(load_tokenizer(teacher), graded_rows, max_tokens=512, pad_id=0)
        found, theirs = (own_runtime.answers(each, split, threads=1) for each in (file, plain))
        slow, fast = own_runtime.milliseconds(plain, file)
        ratio, size = slow / fast, sum(part.stat().st_size for part in (file, file.with_suffix(".bin")))
    own, truth = (score(task.metric, each, graded_rows.labels) for each in (found, theirs))
    point = {
        "parameter_ratio": shape.parameters / made.parameters,
        "bytes_ratio": 4 * shape.parameters / size,
        "latency_ratio": ratio,
        "metric": task.metric,
        "teacher": truth,
        "student": own,
        "retention": own / truth,
    }
    row = {
        **_stamp(name, teacher, task, seed, mark),
        "cpu_s": spent,
        "cpu_s_scaled": spent * r0() / r,
        "job_cpu_s_scaled": spent * r0() / r,
        "reference_cpu_s": r,
        "runtime": made.runtime,
        "predictions": found.argmax(axis=1).tolist(),
        "labels": graded_rows.labels,
        "report": {"point": point, "hardware": hardware(device="cpu", threads=1).model_dump(mode="json")},
    }
    rows.write(path, row)
    return row


def _stamp(system: str, teacher: Path, task: Task, seed: int, mark: str) -> dict[str, Any]:
    return {
        "system": system,
        "task": task.name,
        "seed": seed,
        "fingerprint": mark,
        "git_sha": rows.git_sha(),
        "git_dirty": rows.git_dirty(),
        "teacher_digest": digest(teacher / "model.safetensors"),
    }


def job_cpu_s(reports: Sequence[Mapping[str, Any]]) -> float:
    """CPU-seconds from claim to export; stages that the points share are equal in their reports and count once."""
    stages = {json.dumps(stage) for report in reports for stage in report["stages"] if stage["name"] in TO_EXPORT}
    return float(sum(json.loads(stage)["cpu_s"] for stage in stages))
