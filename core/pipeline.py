"""model + recipe + data in, smaller models + reports out. The file to read first.

    result = compress(Path("model"), PRESETS["ladabert-3"].recipe, Data(train=..., eval=...),
                      target=PRESETS["ladabert-3"].target, out=Path("out"))

Roles of data: `train` teaches, `select` decides, `eval` is read once for the teacher and once per delivered file.
A ladder asks for several sizes: each is a point, and all share the teacher's answers and calibration. A point is what
it would be alone, but where its recipe has it go on from the one before (`distill.continued`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from core import data as data_files
from core.batches import Split, load_tokenizer
from core.checkpoint import Checkpoints, Keeper, fingerprint
from core.data import Data, Rows
from core.deliver import deliver
from core.errors import DataInvalid, ExportFailed, OutOfMemory, RequestInvalid
from core.estimate import least_bytes
from core.export import artifact
from core.hasten import Planned
from core.inspect import shape_of
from core.looks.teacher import Sample, judge
from core.measure import hardware
from core.memory import free_bytes, host_bytes
from core.model import Loaded, load
from core.outputs import Output, check_outputs
from core.plan import ModelShape, check_ladder, fill, size_of
from core.point import Yardstick
from core.profile import Profile
from core.progress import Meter, Progress, Silent, peak_bytes
from core.promise import Judge
from core.recipe import Ladder, Recipe, Target
from core.report import Report, Searched
from core.resolve import Profiler
from core.search import TRIES
from core.seek import Seeker
from core.shared import Shared
from core.task import Metric, Task, check_metric
from core.tasks import Answers, answers_of
from core.verify import logits


@dataclass(frozen=True)
class Delivered:
    """One point: `folder` holds its files, `report.json` among them."""

    report: Report
    folder: Path


@dataclass(frozen=True)
class Result:
    """Every point, in the order of the ladder; none of a dry run. Report and folder are those of the headline."""

    points: tuple[Delivered, ...]
    profile: Profile | None = None  # where a recipe asked for one

    @property
    def headline(self) -> Delivered:
        """The first point that meets its target, else the one that retains most."""
        met = (one for one in self.points if one.report.point.target_met)
        return next(met, max(self.points, key=lambda one: one.report.point.retention))

    @property
    def report(self) -> Report:
        return self.headline.report

    @property
    def folder(self) -> Path:
        return self.headline.folder


@dataclass(frozen=True)
class Roles:
    """The rows of one job. `eval` goes to the two measuring calls and nowhere else."""

    train: Rows  # the unlabelled ones at the end
    select: Rows
    eval: Rows
    counts: dict[str, int]


@dataclass(frozen=True)
class Step:
    """One point as it is asked for: recipe and target."""

    recipe: Recipe
    target: Target


def compress(
    model: Path,
    recipe: Recipe,
    data: Data,
    progress: Progress | None = None,
    *,
    out: Path,
    target: Target | None = None,
    ladder: Ladder | None = None,
    outputs: Sequence[Output] = (),
    metric: Metric | None = None,
    task: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | None = None,
    preset: str | None = None,
    used_s: float = 0.0,
    checkpoints: Checkpoints | None = None,
    profile: Profile | None = None,
    profiled: Callable[[Profile], None] | None = None,
    dry_run: bool = False,
) -> Result:
    """Compress one model to one point, or to every point of a ladder.

    Args:
        model: a Transformers directory (config.json, tokenizer.json, safetensors).
        out: an empty or absent folder; points are written to `out/0`, `out/1`, ...
        metric: one of the task's; its first where None.
        task: that the model has to be of; by its config where None.
        ladder: several values of one size target; each takes the place of that target.
        outputs: formats beside `model.onnx` and `pytorch/`, each once.
        threads: of torch and of the runtime in accuracy runs; the number of usable cores where None.
        device: "cpu", "cuda" or "auto".
        used_s: wall seconds that earlier attempts took; they count towards `target.max_minutes`.
        checkpoints: where to write them, and those of earlier attempts.
        profile: of the same model, text and `recipe.profiled()`, measured before.
        profiled: called with what was measured, before anything is trained: a later attempt must plan as this one did.
        dry_run: end when everything is planned.

    Raises:
        CompressionError: what is wrong with which input, or what failed; nothing usable is left in `out`.
    """
    check_outputs(outputs)  # before anything is trained
    _check_request(seed, device)
    threads = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    targets = _targets(recipe, target or Target(), ladder or Ladder())
    meter = Meter(progress or Silent(), points=sum(TRIES if recipe.aim(each) else 1 for each in targets))
    where = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))
    with meter.stage("plan"):
        shape, labels = shape_of(model, task)
        check_metric(metric := metric or shape.of.metrics[0], shape.of, len(labels))
        steps = [Step(fill(recipe, each, shape), each) for each in targets]
        _check_memory(shape, steps, where)
        roles = _read(data, labels, seed, shape.of)
        loaded = load(model, shape.task)
    folders = _fresh(out, len(steps))
    with TemporaryDirectory(dir=out, prefix=".work-") as scratch:
        # Everything is written here first; only points that were proved get their names.
        work = Path(scratch)
        with meter.stage("prepare"):
            artifact.write(loaded.model, {}, model, work / "teacher", torch_form=False)
            shared, select = _share(model, loaded, roles, seed, where, work)
            shared.followed()
        with meter.stage("profile"):
            read = answers_of(shape.task, roles.select, select.places, shape.labels)
            _check_teacher(read, shared.followed(), shape, meter)
            judge = Judge(metric, read, shared.followed(), len(roles.eval), seed)
            profiler = Profiler(shared, shape, work / "teacher" / "model.onnx", profile or Profile(), judge)
            planned = profiler.plan([(step.recipe, step.target) for step in steps])
            measured = profiler.known if profiler.known != Profile() else None
            if measured is not None and profiled is not None:
                profiled(measured)
        if dry_run:
            return Result((), measured)
        with meter.stage("teacher"):
            against = _yardstick(work / "teacher", metric, shape, select, roles.eval, loaded, threads, seed, meter)
        common, said = len(meter.stages), len(meter.warnings)
        hashes = _hashes(model, data)
        ends = _ends(target, used_s)
        mark = fingerprint(
            inputs=hashes, columns=asdict(data.columns), formats=dict(data.formats), seed=seed, device=str(where),
            threads=threads, metric=metric, outputs=[*outputs],
            points=[[one.recipe.model_dump(mode="json"), step.target.given()]
                    for one, step in zip(planned, steps, strict=True)],
        )  # fmt: skip
        keeper = Keeper(checkpoints or Checkpoints(), mark)
        reports = _finished(keeper, work, meter)
        seeker = Seeker(profiler, judge, meter, keeper)
        for number, step in list(enumerate(steps))[len(reports) :]:
            begun, warned = len(meter.stages), len(meter.warnings)
            left_s = None if ends is None else (ends - time.monotonic()) / (len(steps) - number)
            found = seeker.find(number, step.recipe, step.target, planned[number], left_s)
            point, evidence, digest = deliver(against, model, found, step.target, work / str(number), meter, outputs)
            report = Report(
                preset=preset,
                recipe=found.recipe.model_dump(mode="json"),
                target=step.target.given(),
                outputs=tuple(outputs),
                seed=seed,
                task=shape.task,
                labels=shape.labels,
                rows=roles.counts,
                select_seen_by_teacher="no" if data.select else "assumed",
                input_hashes=hashes,
                point=point,
                stages=(*meter.stages[:common], *meter.stages[begun:]),
                continued=found.build.continued,
                tries=found.tries,
                searched=_searched(planned[number]),
                columns=data.columns.given(),
                max_tokens=loaded.max_tokens,
                weights_sha256=digest,
                evidence=evidence,
                memory_bytes=peak_bytes(),
                hardware=hardware(device=str(where), threads=threads),
                warnings=(*meter.warnings[:said], *meter.warnings[warned:]),
            )
            artifact.finish(work / str(number), report)
            reports.append(report)
            keeper.finish(work / str(number))
        for folder in folders:
            (work / folder.name).rename(folder)
    return Result(tuple(map(Delivered, reports, folders)), measured)


def _check_request(seed: int, device: str) -> None:
    if not 0 <= seed < 2**31:
        raise RequestInvalid(f"seed is {seed}; legal: 0 to {2**31 - 1}", param="/seed")
    if device not in ("cpu", "cuda", "auto"):
        raise RequestInvalid(f"device is {device[:40]!r}; legal: cpu, cuda, auto", param="/resources/device")
    if device == "cuda" and not torch.cuda.is_available():
        raise RequestInvalid("device is 'cuda', and there is none here; legal: cpu, auto", param="/resources/device")


def _check_memory(shape: ModelShape, steps: Sequence[Step], device: torch.device) -> None:
    """Whether there is room for the models at all. What a step takes on top is cut to what is left (`core.parts`)."""
    students = [size_of(one.recipe, shape).parameters for one in steps if not one.recipe.open_for(one.target)]
    trained = min(students, default=0) if all(one.recipe.trained for one in steps) else 0
    needed = least_bytes(shape, trained, host=device.type == "cpu")
    has = free_bytes(device) if device.type == "cuda" else host_bytes()
    if needed > has:
        raise OutOfMemory(
            f"a model of {shape.parameters:,} parameters needs at least {needed:,} bytes of memory, "
            f"{device.type} has {has:,}",
            param="/model",
        )


def _check_teacher(read: Answers, outputs: Any, shape: ModelShape, meter: Meter) -> None:
    """Whether the teacher knows its classes by the numbers that the rows have. Raises DataInvalid where it does not."""
    if shape.task != "classification":
        return
    for one in judge(Sample(read.truth, read.guess(outputs), shape.labels)):
        if one.severity == "error":
            raise DataInvalid(one.detail, param=one.param, finding=one.code)
        if one.severity == "warning":
            meter.warning(one.code, one.detail)


def _targets(recipe: Recipe, target: Target, ladder: Ladder) -> list[Target]:
    check_ladder(recipe, ladder)
    return ladder.targets(target)


def _ends(target: Target | None, used_s: float) -> float | None:
    """When, on the monotonic clock, the time budget is over; None without one."""
    minutes = (target or Target()).max_minutes
    return time.monotonic() + 60 * minutes - used_s if minutes else None


def _finished(keeper: Keeper, work: Path, meter: Meter) -> list[Report]:
    """Of the points that an earlier attempt finished; their files are in `work` again."""
    found = []
    for number in range(keeper.finished_before(work)):
        found.append(Report.model_validate_json((work / str(number) / "report.json").read_bytes()))
        meter.skip_point()
    return found


def _fresh(out: Path, points: int) -> list[Path]:
    """The folders of the points, none of which may be there."""
    folders = [out / str(number) for number in range(points)]
    if taken := [folder for folder in folders if folder.exists()]:
        raise ExportFailed(f"{taken[0]} exists already: name another folder")
    out.mkdir(parents=True, exist_ok=True)
    return folders


def _read(data: Data, labels: dict[int, str], seed: int, task: Task) -> Roles:
    rows = data_files.read_roles(data, labels, task)
    train, select = rows["train"], rows.get("select")
    if select is None:
        train, select = data_files.split_select(train, seed)
    counts = {"train": len(train), "select": len(select)} | {role: len(rows[role]) for role in rows if role != "train"}
    if task.name == "sentence_embedding":  # of two texts in a row each is one to learn from
        train = train.sequences()
        rows |= {role: found.sequences() for role, found in rows.items() if role == "unlabelled"}
    return Roles(train + rows["unlabelled"] if "unlabelled" in rows else train, select, rows["eval"], counts)


def _share(
    model: Path, loaded: Loaded, roles: Roles, seed: int, device: torch.device, scratch: Path
) -> tuple[Shared, Split]:
    tokenizer = load_tokenizer(model)
    train_split = Split.encode(tokenizer, roles.train, **loaded.encoding)
    select = Split.encode(tokenizer, roles.select, **loaded.encoding)
    teacher = loaded.model.to(device).requires_grad_(False)
    return Shared(teacher, loaded.family, train_split, seed, device, scratch, select), select


def _yardstick(
    teacher: Path, metric: Metric, shape: ModelShape, select: Split, graded: Rows, loaded: Loaded, threads: int,
    seed: int, meter: Meter,
) -> Yardstick:  # fmt: skip
    """The teacher as it is delivered beside its students: measured on the rows that measure them."""
    task, rows = shape.of, graded.sequences() if shape.task == "sentence_embedding" else graded
    # Only what answers token by token has to know what its tokens are.
    places = Split.encode(load_tokenizer(teacher), graded, **loaded.encoding).places if task.per_token else ()
    read = answers_of(task.name, graded, places, shape.labels)
    run = logits("onnx", teacher, rows.inputs(), max_length=loaded.max_tokens, threads=threads, task=shape.task)
    found = read.score(metric, read.guess(run.logits))
    if found <= 0:
        meter.warning("teacher_scores_zero", f"the teacher's {metric} on eval is {found:.4f}")
    return Yardstick(
        teacher, metric, found, run.logits, run.bytes_in_memory, shape, select, rows, read, loaded.max_tokens,
        loaded.pad_id, threads, seed,
    )  # fmt: skip


def _searched(planned: Planned) -> tuple[Searched, ...]:
    ways = [one.model_dump(exclude={"each"}) for one in planned.assigned]
    return tuple(Searched(**way, chosen=not place) for place, way in enumerate(ways))


def _hashes(model: Path, data: Data) -> dict[str, str]:
    files = {f"model/{path.name}": path for path in sorted(model.iterdir())} | data.roles()
    return {name: data_files.digest(path) for name, path in files.items()}
