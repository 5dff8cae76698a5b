"""model + recipe + data in, smaller model + report out. The file to read first.

    result = compress(Path("model"), PRESETS["ladabert-3"].recipe, Data(train=..., eval=...),
                      target=PRESETS["ladabert-3"].target, out=Path("out"))

Roles of data: `train` teaches, `select` decides, `eval` is read once for the teacher and once per delivered file.
"""

from __future__ import annotations

import copy
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from core import data as data_files
from core.batches import Split, load_tokenizer
from core.data import Data, Rows
from core.errors import ExportFailed
from core.export import artifact
from core.inspect import shape_of
from core.measure import hardware, latency
from core.metrics import Metric, agreement, score
from core.model import Loaded, load
from core.phase import Build
from core.plan import ModelShape, fill, misses, size_of
from core.progress import Meter, Progress, Silent
from core.recipe import Recipe, Target
from core.report import Parity, Point, Report, Sizes
from core.train import train
from core.verify import check, logits

FLOAT = npt.NDArray[np.float32]
PARITY_ROWS = 64
FORMS: tuple[tuple[Literal["onnx", "torch"], str], ...] = (("onnx", "model.onnx"), ("torch", "pytorch"))
PARITY_TOLERANCE = 1e-3  # absolute, on logits: fp32 kernels in another order differ by about 1e-5
STAGE_OF = {
    "structure": "prune",
    "factorize": "factorize",
    "prune": "prune",
    "quantize": "quantize",
    "distill": "distill",
}


@dataclass(frozen=True)
class Result:
    """`folder` holds the delivered files of the one point, `report.json` among them."""

    report: Report
    folder: Path


@dataclass(frozen=True)
class Roles:
    """The rows of one job. `eval` goes to the two measuring calls in `compress` and nowhere else."""

    train: Rows
    select: Rows
    eval: Rows


def compress(
    model: Path,
    recipe: Recipe,
    data: Data,
    progress: Progress | None = None,
    *,
    out: Path,
    target: Target | None = None,
    metric: Metric = "accuracy",
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    preset: str | None = None,
) -> Result:
    """Compress one model to one point.

    Args:
        model: a Transformers directory (config.json, tokenizer.json, safetensors).
        out: an empty or absent folder; the point is written to `out/0`.
        threads: of torch and of the runtime in accuracy runs; the number of usable cores where None.
        device: "cpu", "cuda" or "auto".

    Raises:
        CompressionError: what is wrong with which input, or what failed; nothing usable is left in `out`.
    """
    threads = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    meter = Meter(progress or Silent())
    target = target or Target()
    where = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))
    with meter.stage("plan"):
        shape, labels = shape_of(model)
        recipe = fill(recipe, target, shape)
        roles = _read(data, labels, seed)
    folder = out / "0"
    if folder.exists():
        raise ExportFailed(f"{folder} exists already: name another folder")
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix=".work-") as scratch:
        # Everything is written here first; only a point that was proved gets its name.
        teacher_folder, unproved = Path(scratch) / "teacher", Path(scratch) / "point"
        with meter.stage("teacher"):
            loaded = load(model)
            artifact.write(loaded.model, {}, model, teacher_folder, torch_form=False)
            run = logits("onnx", teacher_folder, roles.eval.inputs(), max_length=loaded.max_tokens, threads=threads)
            teacher_score = score(metric, run.logits, roles.eval.labels)
            if teacher_score <= 0:
                meter.warning("teacher_scores_zero", f"the teacher's {metric} on eval is {teacher_score:.4f}")
            build, select = _build(model, loaded, roles, seed, where)
            followed = predict(loaded.model, select, where)
        _run(build, recipe, meter, select, followed, target)
        with meter.stage("export"):
            student = build.model.cpu()
            artifact.write(student, build.masks, model, unproved, torch_form=True)
        with meter.stage("verify"):
            point = _measure(
                unproved, teacher_folder, student, build, roles, select, shape, recipe, target, metric, teacher_score,
                loaded.max_tokens, threads, run.bytes_in_memory,
            )  # fmt: skip
        report = Report(
            preset=preset,
            recipe=recipe.model_dump(mode="json"),
            target=target.given(),
            seed=seed,
            task=loaded.task,
            labels=shape.labels,
            rows={"train": len(roles.train), "select": len(roles.select), "eval": len(roles.eval)},
            select_seen_by_teacher="no" if data.select else "assumed",
            input_hashes=_hashes(model, data),
            point=point,
            stages=tuple(meter.stages),
            hardware=hardware(device=str(where), threads=threads),
            warnings=tuple(meter.warnings),
        )
        artifact.finish(unproved, report)
        unproved.rename(folder)
    return Result(report, folder)


@torch.no_grad()
def predict(model: torch.nn.Module, split: Split, device: torch.device, batch_size: int = 64) -> FLOAT:
    """Logits (rows, classes) of a model in memory, in row order; rows of like length run together."""
    order = np.argsort([len(row) for row in split.ids], kind="stable")
    found: list[FLOAT] = []
    for start in range(0, len(order), batch_size):
        batch = split.collate(order[start : start + batch_size].tolist(), device)
        batch.pop("labels")
        found.append(model(**batch).logits.float().cpu().numpy())
    logits = np.concatenate(found)
    result = np.empty_like(logits)
    result[order] = logits
    return result


def _read(data: Data, labels: dict[int, str], seed: int) -> Roles:
    rows = data_files.read_roles(data, labels)
    train, select = rows["train"], rows.get("select")
    if select is None:
        train, select = data_files.split_select(train, seed)
    return Roles(train, select, rows["eval"])


def _build(model: Path, loaded: Loaded, roles: Roles, seed: int, device: torch.device) -> tuple[Build, Split]:
    tokenizer = load_tokenizer(model)
    encode = {"max_tokens": loaded.max_tokens, "pad_id": loaded.pad_id}
    train_split = Split.encode(tokenizer, roles.train, **encode)
    select = Split.encode(tokenizer, roles.select, **encode)
    student = copy.deepcopy(loaded.model).to(device)
    teacher = loaded.model.to(device).requires_grad_(False)
    return Build(student, teacher, loaded.family, train_split, seed, device), select


def _run(build: Build, recipe: Recipe, meter: Meter, select: Split, followed: FLOAT, target: Target) -> None:
    """Compile and train every step; after each, how far the student still predicts what its teacher does."""
    ends = time.monotonic() + 60 * target.max_minutes if target.max_minutes else None
    for step in recipe.steps:
        with meter.stage(STAGE_OF[step.family()]):
            for phase in step.compile(build):
                budget = None if ends is None else max(1e-3, ends - time.monotonic())
                train(phase, meter, device=build.device, budget_s=budget)
            changed = step.trains or not step.needs_training
            near = agreement(predict(build.model, select, build.device), followed) if changed else None
        if near is not None:
            meter.agreement(near)


def _measure(
    folder: Path,
    teacher_folder: Path,
    student: torch.nn.Module,
    build: Build,
    roles: Roles,
    select: Split,
    shape: ModelShape,
    recipe: Recipe,
    target: Target,
    metric: Metric,
    teacher_score: float,
    max_tokens: int,
    threads: int,
    teacher_memory: int,
) -> Point:
    """Everything the report says of the point, read off the delivered files by processes that know only them."""
    sample = select.sample(PARITY_ROWS, build.seed)
    expected = predict(student, sample, torch.device("cpu"))
    parity: list[Parity] = []
    scores: dict[str, float] = {}
    memory = 0
    for kind, name in FORMS:
        # One process per file answers both questions: is it the student, and how good is it.
        rows = sample.rows.inputs() + roles.eval.inputs()
        run = logits(kind, folder, rows, max_length=max_tokens, threads=threads)
        near = replace(run, logits=run.logits[: len(sample)])
        parity.append(check(name, expected, near, tolerance=PARITY_TOLERANCE))
        scores[name] = score(metric, run.logits[len(sample) :], roles.eval.labels)
        memory = run.bytes_in_memory if kind == "onnx" else memory
    timed = latency(teacher_folder / "model.onnx", folder / "model.onnx", threads=1)
    planned = size_of(recipe, shape)
    parameters = sum(p.numel() for p in student.parameters())
    nonzero = parameters - sum(int((~mask).sum()) for mask in build.masks.values())
    disk = artifact.sizes(folder)
    reference = next(row for row in timed if (row.batch, row.tokens) == (1, 128))
    reached = {
        "parameter_ratio": shape.parameters / nonzero,
        "bytes_ratio": 4 * shape.parameters / disk["model.onnx"],
        "latency_ratio": reference.ratio,
        "max_bytes": float(disk["model.onnx"]),
        "max_nonzero": float(nonzero),
        "max_latency_ms": reference.student_ms_p50,
        "min_retention": scores["model.onnx"] / teacher_score if teacher_score > 0 else 0.0,
    }
    shortfall = misses(target.given(), reached)
    return Point(
        parameter_ratio=reached["parameter_ratio"],
        bytes_ratio=reached["bytes_ratio"],
        latency_ratio=reached["latency_ratio"],
        metric=metric,
        teacher=teacher_score,
        student=scores["model.onnx"],
        retention=reached["min_retention"],
        target=target.given(),
        target_met=not shortfall,
        shortfall=shortfall,
        sizes=Sizes(parameters=parameters, nonzero=nonzero, bytes_on_disk=disk, bytes_in_memory=memory),
        sizes_teacher=Sizes(
            parameters=shape.parameters,
            nonzero=shape.parameters,
            bytes_on_disk=artifact.sizes(teacher_folder),
            bytes_in_memory=teacher_memory,
        ),
        planned_bytes=planned.size_bytes,
        latency=timed,
        parity=tuple(parity),
        student_by_file=scores,
    )


def _hashes(model: Path, data: Data) -> dict[str, str]:
    files = {f"model/{path.name}": path for path in sorted(model.iterdir())} | data.roles()
    return {name: data_files.digest(path) for name, path in files.items()}
