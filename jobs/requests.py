"""What a user may send to start work: typed, closed and frozen, like the recipe inside it."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from core.method import Closed
from core.outputs import FORMATS, Output
from core.recipe import PRESETS, Ladder, Recipe, Target
from core.task import TASKS, Metric, TaskName
from jobs.scope import can_be_stored
from jobs.webhooks.kinds import JobKind

DEFAULT_PRESET = "hybrid"


def storable(value: str) -> str:
    """Neither database stores these."""
    if not can_be_stored(value):
        raise ValueError("must not contain U+0000 or lone surrogates")
    return value


def _known_preset(value: str) -> str:
    if value not in PRESETS:
        raise ValueError(f"legal: {', '.join(PRESETS)}")
    return value


Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable)]
PresetName = Annotated[Text, AfterValidator(_known_preset)]
Id = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(storable)]
Metadata = Annotated[
    dict[Text, Annotated[str, Field(max_length=500), AfterValidator(storable)]],
    Field(max_length=16, description="For the caller: at most 16 pairs. Lists can be filtered by them."),
]
Seconds = Annotated[float, Field(gt=0, le=30 * 86_400, description="Seconds, at most 30 days.")]


class ColumnNames(Closed):
    """Where text and labels stand. Absent: the first of the task's own names that the file has (docs/tasks.md); of
    classification `text` or `sentence`, `text_pair` where it exists, `label`."""

    text: Text | None = None
    text_pair: Text | None = None
    label: Text | None = None


class DataRoles(Closed):
    """Datasets by role. `eval` is read once per delivered file and decides nothing."""

    train: Id = Field(description="Training rows.")
    eval: Id = Field(description="Rows that measure the result.")
    select: Id | None = Field(None, description="Rows for decisions that the teacher has not seen; else 10 % of train.")
    unlabelled: Id | None = Field(None, description="More text like the training rows; the teacher labels it.")
    columns: ColumnNames = ColumnNames()

    def ids(self) -> dict[str, str]:
        """Role -> dataset id, only those given."""
        given = {"train": self.train, "eval": self.eval, "select": self.select, "unlabelled": self.unlabelled}
        return {role: value for role, value in given.items() if value is not None}


class Resources(Closed):
    device: Literal["cpu", "cuda", "auto"] = Field("auto", description="auto = the worker's accelerator, else its CPU.")


class Limits(Closed):
    """Walls: beyond them the job fails and publishes nothing."""

    max_runtime_s: Seconds | None = None
    max_pending_s: Seconds | None = None


class RetryRequest(Closed):
    """Body of POST /v1/jobs/{id}/retry: what is to be different. Absent: as it was."""

    limits: Limits | None = Field(None, description="Replaces the limits of the job that is done again.")
    metadata: Metadata | None = None


class PushRequest(Closed):
    """Where an artifact shall go: a registry that the operator has named, and a name in it."""

    registry: Text = Field(description="As GET /v1/registries lists them.")
    to: Text = Field(description="Hugging Face: NAMESPACE/NAME of a repository. MLflow: name of a registered model.")
    revision: Text | None = Field(None, description='Hugging Face: the branch, made where it is missing; "main".')
    alias: Text | None = Field(None, description="MLflow: an alias that the version gets, taken from any other.")


class TrackRequest(Closed):
    """Where a job's curves go while it runs: an MLflow server that the operator has named."""

    registry: Text = Field(description="As GET /v1/registries lists them, of kind mlflow.")
    experiment: Text | None = Field(
        None, description="That holds the run; made where it is missing; the registry's own."
    )


class JobWebhook(Closed):
    """An endpoint of the project that is told of this job, whatever else it is told of. Its secret signs."""

    endpoint: Id = Field(description="Id of a webhook endpoint.")
    events: tuple[JobKind, ...] = Field(
        get_args(JobKind), min_length=1, max_length=16, description="Types to be told; all of a job where absent."
    )


VERDICT = 3  # raised by whoever changes what a verdict holds: those of before are not found any more


def _of_task(value: Any) -> Any:
    """A body whose metric is the task's own where none is given."""
    task = TASKS.get(str(value.get("task", "classification"))) if isinstance(value, dict) else None
    return {**value, "metric": task.metrics[0]} if task is not None and "metric" not in value else value


def _of_its_task(value: Metric, info: ValidationInfo) -> Metric:
    task = TASKS.get(info.data.get("task", ""))
    if task is not None and value not in task.metrics:
        raise ValueError(f"not a metric of task {task.name!r}; legal: {', '.join(task.metrics)}")
    return value


OfTask = Annotated[Metric, AfterValidator(_of_its_task)]


class InspectionRequest(Closed):
    """A model and its data, to be judged. Recipe and target are not part of it: planning is cheap and comes later."""

    model: Id
    data: DataRoles
    task: TaskName = "classification"
    metric: OfTask = Field("accuracy", description="The task's first where absent.")

    _own = model_validator(mode="before")(_of_task)

    def key(self) -> str:
        """sha256 of the content; the same question has the same key."""
        return digest({**self.model_dump(mode="json"), "verdict": VERDICT})


class PlanRequest(Closed):
    """Body of POST /v1/plans: what a job would be asked for."""

    model: Id
    data: DataRoles
    task: TaskName = Field("classification", description="What the model is for; it has to be of that task.")
    metric: OfTask = Field("accuracy", description="What retention is measured in; the task's first where absent.")
    preset: PresetName | None = Field(
        None, description=f'Name of a recipe; "{DEFAULT_PRESET}" where recipe is absent too.'
    )
    recipe: Recipe | None = None
    target: Target | None = Field(None, description="Replaces the preset's constraints of the same name.")
    ladder: Ladder | None = Field(None, description="Several values of one target: one point for each.")
    seed: int = Field(0, ge=0, lt=2**31)
    resources: Resources = Resources()

    _own = model_validator(mode="before")(_of_task)

    @model_validator(mode="after")
    def _one_recipe(self) -> PlanRequest:
        if self.preset is not None and self.recipe is not None:
            raise ValueError("give either preset or recipe, not both")
        return self

    def inspection(self) -> InspectionRequest:
        """The part that an inspection judges."""
        return InspectionRequest(model=self.model, data=self.data, task=self.task, metric=self.metric)

    def resolved(self) -> tuple[str | None, Recipe, Target]:
        """(preset's name or None, recipe still with "auto", target over the preset's, whose dial a ladder takes)."""
        own = self.target or Target()
        if self.recipe is not None:
            return None, self.recipe, own
        preset = PRESETS[self.preset or DEFAULT_PRESET]
        return preset.name, preset.recipe, preset.asked(own, self.ladder or Ladder())


class JobRequest(PlanRequest):
    """Body of POST /v1/jobs."""

    outputs: tuple[Output, ...] = Field((), max_length=8, description="Formats beside model.onnx and pytorch/.")
    limits: Limits = Limits()
    name: Text | None = None
    metadata: Metadata = Field({})
    cache: Literal["use", "bypass"] = Field(
        "use", description="use: a result of the same inputs, order and engine is given at once, marked cache_hit."
    )
    dry_run: bool = Field(False, description="End when everything is planned: no training, no artifacts.")
    push: PushRequest | None = Field(None, description="Where the artifact goes when the job has succeeded.")
    webhook: JobWebhook | None = Field(None, description="Who is told of this job, beside those that are told of all.")
    track: TrackRequest | None = Field(None, description="Where the curves go while the job runs.")

    @model_validator(mode="after")
    def _one_artifact(self) -> JobRequest:
        if self.push is not None and (self.ladder is not None or self.dry_run):
            raise ValueError("push takes a job of one artifact: no ladder, no dry_run; push the artifacts afterwards")
        return self

    @field_validator("outputs")
    @classmethod
    def _each_once(cls, given: tuple[Output, ...]) -> tuple[Output, ...]:
        if twice := sorted({name for name in given if given.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} twice: each of {', '.join(FORMATS)} at most once")
        return given


def digest(value: Any) -> str:
    """sha256, hex, of the canonical JSON of `value`."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
