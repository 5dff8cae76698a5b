"""`ladapress compress`: check here, upload, submit, watch, download, verify. One command, one exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import tomllib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ladapress import outcome, uploads
from ladapress.client import Client
from ladapress.display import Display, result_table
from ladapress.errors import LadapressError, of_job, sentence
from ladapress.events import TERMINAL
from ladapress.types import Artifact, Job, Ladder, Plan, Target

CANCEL_WAIT_S = 15.0
DRY_RUNS = 2  # for one plan
PAUSE_S = 0.5  # between two questions for a plan


@dataclass(frozen=True)
class Order:
    """The command line, checked as far as it can be without the service."""

    model: Path
    data: dict[str, Path]  # role -> file
    out: Path | None = None  # None where nothing comes back
    options: dict[str, Any] = field(default_factory=dict)  # fields of types.JobRequest beside model and data
    columns: dict[str, str] = field(default_factory=dict)
    key: str | None = None  # the same key and order give the same job; its uploads stay, for the next try

    def check(self) -> None:
        """Raise LadapressError(usage) for files that are not there or cannot be taken."""
        uploads.model_files(self.model)
        for file in self.data.values():
            uploads.media_type(file)
        if self.out is None:
            return
        if self.out.exists() and not self.out.is_dir():
            raise usage(f"--out {self.out} is a file: name a folder")
        home = next(path for path in (self.out.absolute(), *self.out.absolute().parents) if path.exists())
        if not os.access(home, os.W_OK):
            raise usage(f"--out {self.out}: no permission to write in {home}")


def usage(detail: str) -> LadapressError:
    """A command line that cannot be right; exit code 2."""
    return LadapressError.local("usage", detail)


def targets(given: Sequence[str]) -> dict[str, float] | None:
    """`NAME=VALUE` options as the target object, names and ranges checked against the interface's types."""
    found: dict[str, float] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in Target.model_fields:
            raise usage(f"--target {text}: must be NAME=VALUE, NAME one of {', '.join(Target.model_fields)}")
        if name in found:
            raise usage(f"--target {text}: {name} is given twice")
        try:
            checked: float = getattr(Target.model_validate({name: value}), name)
        except ValidationError as error:
            raise usage(f"--target {text}: {error.errors()[0]['msg']}") from None
        found[name] = checked
    return found or None


def rungs(given: str | None) -> dict[str, list[float]] | None:
    """`NAME=V,V,...` as the ladder object, name and values checked against the interface's types."""
    if given is None:
        return None
    name, equals, values = given.partition("=")
    if not equals or name not in Ladder.model_fields:
        raise usage(f"--ladder {given}: must be NAME=VALUE,VALUE,..., NAME one of {', '.join(Ladder.model_fields)}")
    try:
        checked = Ladder.model_validate({name: values.split(",")})
    except ValidationError as error:
        raise usage(f"--ladder {given}: {error.errors()[0]['msg']}") from None
    found = [float(getattr(value, "root", value)) for value in getattr(checked, name)]
    falls = name.startswith("max_")
    if found != sorted(set(found), reverse=falls):
        raise usage(f"--ladder {given}: values must {'fall' if falls else 'rise'}, each once")
    return {name: found}


def one_of(model: type[BaseModel], name: str, value: str | None) -> str | None:
    """`value` where the interface's type of field `name` allows it."""
    legal = [choice for choice in get_args(model.model_fields[name].annotation) if choice is not None]
    if value is not None and value not in legal:
        raise usage(f"--{name} {value}: must be one of {', '.join(map(str, legal))}")
    return value


def recipe_file(path: Path) -> dict[str, Any]:
    """A recipe from TOML or JSON: `steps`, each with its `method`; which fields are legal, the service decides."""
    legal = 'a TOML or JSON object with "steps", each with a "method"'
    try:
        text = path.read_text(encoding="utf-8")
        recipe = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise usage(f"--recipe {path}: {error}; must be {legal}") from None
    steps = recipe.get("steps") if isinstance(recipe, dict) else None
    if not isinstance(steps, list) or not all(isinstance(step, dict) and "method" in step for step in steps):
        raise usage(f"--recipe {path}: must be {legal}")
    return dict(recipe)


def run(client: Client, order: Order, display: Display) -> tuple[int, dict[str, Any]]:
    """Do it all. Returns the exit code and the result as `--json` prints it."""
    order.check()
    job: Job | None = None
    folders: list[Path] = []
    key = order.key or uuid.uuid4().hex
    request: dict[str, Any] | None = None
    try:
        with interruptible(), ExitStack() as undo:
            check_names(client, order)
            request = upload(client, order, display, undo)
            job = client.jobs.submit(request, idempotency_key=key)
            undo.pop_all()  # the uploads belong to a job now
            display.say(f"{job.id} at {client.url}")
            job = watch(client, job.id, display)
            if job.status == "succeeded":
                folders = download(client, job, order.out or Path(), display)
    except KeyboardInterrupt:
        # A submission may have arrived although its answer has not: the same key finds out.
        if job is None and request is not None:
            with suppress(LadapressError):
                job = client.jobs.submit(request, idempotency_key=key)
        if job is not None and not folders:
            job = _cancel(client, job, display)
        result = outcome.summary(job, folders)
        return outcome.CANCELLED, {**result, "status": job.status if job else "cancelled"}
    except LadapressError as error:
        if error.code == "usage":
            raise
        display.say(f"ladapress: {error}")
        return outcome.FAILED, outcome.summary(job, folders, error.problem)
    report(job, display)
    return outcome.exit_code(job), outcome.summary(job, folders)


def ask(client: Client, order: Order, display: Display) -> Plan:
    """The plan of what `run` would do. Its uploads stay: a job of the same bytes finds what was measured."""
    order.check()
    with interruptible(), ExitStack() as undo:
        check_names(client, order)
        request = upload(client, order, display, undo)
        plan = client.plans.ask(request)
        undo.callback(lambda: plan.job_id is None or _cancel(client, client.jobs.get(plan.job_id), display))
        runs = 0
        while plan.status != "done":
            if plan.job_id is None:
                time.sleep(PAUSE_S)
            else:
                _refuse_unmeasured(watch(client, plan.job_id, display), runs := runs + 1)
            plan = client.plans.ask(request)
        undo.pop_all()
    return plan


def _refuse_unmeasured(job: Job, runs: int) -> None:
    """Raise LadapressError where a dry run has ended without what it was made for."""
    if (problem := of_job(job)) is not None:
        raise LadapressError(problem)
    if job.status != "succeeded" or runs > DRY_RUNS:
        raise LadapressError.local("not_measured", f"{job.id} is {job.status} and left no profile")


def watch(client: Client, job_id: str, display: Display) -> Job:
    """Show a job until it has ended."""
    with display:
        for event in client.jobs.events(job_id):
            display.event(event)
    return client.jobs.get(job_id)


def download(client: Client, job: Job, out: Path, display: Display) -> list[Path]:
    """Every point of a succeeded job, verified; returns their folders."""
    folders = outcome.point_folders(job, out)
    for point, folder in zip(job.points, folders, strict=True):
        download_artifact(client, client.artifacts.get(point.artifact_id), folder, display)
    return folders


def download_artifact(client: Client, artifact: Artifact, folder: Path, display: Display) -> None:
    """One artifact into one folder, under a bar."""
    total = sum(file.size for file in artifact.files)
    with display, display.transfer(f"downloading to {folder}", total) as moved:
        client.artifacts.download(artifact.id, folder, moved=moved)


def report(job: Job, display: Display) -> None:
    """How the job ended, for people."""
    if (chosen := outcome.headline(job)) is not None:
        point = job.points[chosen]
        display.console.print(result_table(point))
        for name, reached in point.shortfall.items():
            display.say(f"target missed: {name} {point.target.get(name)} wanted, {reached:.4g} reached")
    elif (problem := of_job(job)) is not None:
        display.say(f"{job.id} {job.status}: {sentence(problem)}")
    else:
        display.say(f"{job.id} {job.status}")


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does, so that a job is cancelled then, too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_names(client: Client, order: Order) -> None:
    """Preset and methods by the service's own lists, before megabytes travel for a typing error."""
    if (preset := order.options.get("preset")) is not None:
        presets = [known.name for known in client.presets().data]
        if preset not in presets:
            raise usage(f"--preset {preset}: must be one of {', '.join(presets)}")
    if (recipe := order.options.get("recipe")) is not None:
        methods = [known.name for known in client.methods().data]
        for step in recipe["steps"]:
            if step["method"] not in methods:
                raise usage(f"--recipe: method {step['method']!r} must be one of {', '.join(methods)}")
    if (push := order.options.get("push")) is not None:
        registries = [known.name for known in client.pushes.registries().data]
        if push["registry"] not in registries:
            raise usage(f"--push: registry {push['registry']!r} must be one of {', '.join(registries) or '(none)'}")


def upload(client: Client, order: Order, display: Display, undo: ExitStack) -> dict[str, Any]:
    """The request for POST /v1/jobs or /v1/plans, its inputs uploaded. `undo` takes them back."""
    data: dict[str, Any] = {"columns": order.columns} if order.columns else {}
    with display:
        size = sum(path.stat().st_size for path in uploads.model_files(order.model).values())
        with display.transfer(f"uploading {order.model}", size) as moved:
            model = client.models.upload(order.model, moved=moved, idempotency_key=_part(order, "model"))
        if order.key is None:
            undo.callback(_quietly, client.models.delete, model.id)
        for role, file in order.data.items():
            with display.transfer(f"uploading {file}", file.stat().st_size) as moved:
                dataset = client.datasets.upload(file, moved=moved, idempotency_key=_part(order, role))
            if order.key is None:
                undo.callback(_quietly, client.datasets.delete, dataset.id)
            data[role] = dataset.id
    return {"model": model.id, "data": data, **order.options}


def _part(order: Order, name: str) -> str | None:
    """The key of one upload: the same key gives the same id, so that the job's request stays the same."""
    return None if order.key is None else f"{order.key}.{name}"


def _quietly(delete: Any, object_id: str) -> None:
    with suppress(LadapressError):
        delete(object_id)


def _cancel(client: Client, job: Job, display: Display) -> Job:
    """Cancel and wait until the service says that the job's processes are gone."""
    display.say(f"cancelling {job.id}")
    try:
        job = client.jobs.cancel(job.id)
        deadline = time.monotonic() + CANCEL_WAIT_S
        while job.status not in TERMINAL and time.monotonic() < deadline:
            time.sleep(0.2)
            job = client.jobs.get(job.id)
        display.say(f"{job.id} {job.status}")
    except LadapressError as error:
        print(f"ladapress: {error}", file=sys.stderr)
        with suppress(LadapressError):
            job = client.jobs.get(job.id)
    return job
