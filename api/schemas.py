"""What the service answers, typed for the OpenAPI document and so for generated clients.

Times are RFC 3339 in UTC, sizes are bytes, durations are seconds. Ids are opaque; newer ones sort later.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from core import report as core_report
from core.estimate import Estimate
from core.findings import Finding, Lengths
from core.forecast import Forecast
from core.method import Closed
from core.outputs import Output
from core.plan import ModelShape
from core.recipe import Ladder, Preset, Recipe, Target
from core.task import Metric, TaskName
from jobs.problem import Problem
from jobs.requests import DataRoles, JobWebhook, Limits, PushRequest, Resources, TrackRequest
from jobs.states import State

Item = TypeVar("Item")
DatasetFormat = Literal["csv", "jsonl", "parquet"]


class Answer(BaseModel):
    """Base of answers. Clients must expect further fields."""

    model_config = ConfigDict(frozen=True)


class Page(Answer, Generic[Item]):
    """Newest first. Give `last_id` as `after` to go on while `has_more`."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    first_id: str | None
    last_id: str | None


class ModelFile(Answer):
    path: str
    size: int | None
    sha256: str | None
    present: bool


class Model(Answer):
    """`ready` once every declared file is present; then it changes no more."""

    id: str
    object: Literal["model"] = "model"
    name: str | None
    status: Literal["open", "ready"]
    size_bytes: int
    files: list[ModelFile]
    missing: list[str]
    created_at: datetime
    expires_at: datetime | None = Field(description="When it goes by itself; null = never.")


class ModelList(Page[Model]):
    """Models of the project."""


def _written(value: Any) -> Any:
    """Pydantic would read numbers, and texts that look like one, as seconds since 1970."""
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\d[Tt ]", value):
        raise ValueError("must be a time as RFC 3339 writes it, such as 2026-01-31T12:00:00Z")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_written)]


class Keep(Closed):
    """Body of PATCH on models, datasets and artifacts."""

    expires_at: Time | None = Field(description="When it goes by itself (RFC 3339); null = never.")

    def at(self) -> float | None:
        """Seconds since 1970."""
        return None if self.expires_at is None else self.expires_at.timestamp()


class Dataset(Answer):
    id: str
    object: Literal["dataset"] = "dataset"
    name: str | None
    format: DatasetFormat
    size_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None = Field(description="When it goes by itself; null = never.")


class DatasetList(Page[Dataset]):
    """Datasets of the project."""


class Inspection(Answer):
    """A verdict on a model with its data. `ok` is null until `status` is done.

    `findings` may still grow when it is done: the teacher's answers on a sample of rows come after the verdict.
    """

    id: str
    object: Literal["inspection"] = "inspection"
    status: Literal["queued", "running", "done"]
    model: str
    data: DataRoles
    task: TaskName
    metric: Metric
    ok: bool | None
    error: Problem | None
    shape: ModelShape | None
    rows: dict[str, int]
    findings: list[Finding] = Field(description="Errors, warnings and notes; their codes are in docs/preflight.md.")
    warnings: list[str] = Field(description="The sentences of the warnings among them.")
    classes: dict[str, dict[str, int]] = Field(description="Role -> class -> rows; of token classification, words.")
    lengths: dict[str, Lengths] = Field(description="Role -> tokens of a sample of its texts.")
    estimate: Estimate | None = Field(description="What a job with a plain training would take, by a formula.")
    created_at: datetime
    finished_at: datetime | None


class Progress(Answer):
    """`fraction` of the whole job never falls; `eta_s` is null until it can be known."""

    fraction: float = 0.0
    step: int | None = None
    steps: int | None = None
    eta_s: float | None = None


class Transition(Answer):
    status: State
    at: datetime
    attempt: int
    reason: str | None


class JobPoint(core_report.Point):
    """One delivered model; its files are at /v1/artifacts/{artifact_id}."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    artifact_id: str


class Report(core_report.Report):
    """The whole `report.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Job(Answer):
    id: str
    object: Literal["job"] = "job"
    status: State
    stage: str | None = Field(description="What a queued or running job is at; null where nothing runs.")
    name: str | None
    model: str
    data: DataRoles
    task: TaskName
    metric: Metric
    preset: str | None
    recipe: Recipe
    target: Target
    ladder: Ladder | None
    outputs: list[Output] = Field(description="Formats beside model.onnx and pytorch/.")
    seed: int
    resources: Resources
    limits: Limits
    push: PushRequest | None = Field(description="Where its artifact goes; GET /v1/pushes?artifact_id= says how far.")
    webhook: JobWebhook | None = Field(description="Who is told of it, beside those that are told of all.")
    track: TrackRequest | None = Field(description="The MLflow server that gets its curves while it runs.")
    dry_run: bool = Field(description="It ends when everything is planned: no points, no report.")
    cache: Literal["use", "bypass"]
    cache_hit: bool = Field(description="The result was there already: nothing was computed for this job.")
    cached_from: str | None = Field(description="The job that computed the result; it may have been deleted since.")
    parent_job_id: str | None = Field(description="Of a retry: the job that it does again.")
    metadata: dict[str, str]
    attempt: int
    progress: Progress
    heartbeat_at: datetime | None
    stalled: bool = Field(description="A worker holds the job and has been silent for half of its lease.")
    status_transitions: list[Transition]
    stage_seconds: dict[str, float] = Field(description="Of the last attempt, from claim to publish; ended stages.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: Problem | None
    target_met: bool | None = Field(description="Null until the job has succeeded. A missed target is no failure.")
    points: list[JobPoint]
    report: Report | None


class Plan(Answer):
    """What a job would give. `points` are there when the status is "done", one for each value of the ladder."""

    object: Literal["plan"] = "plan"
    status: Literal["inspecting", "profiling", "done"]
    inspection_id: str
    job_id: str | None = Field(description="The dry run that measures what the plan stands on; null when it is done.")
    points: list[Forecast]
    estimate: Estimate | None = Field(
        description="What a point would take by a formula, before anything was measured; null without a training."
    )


class JobList(Page[Job]):
    """Jobs of the project."""


class ArtifactFile(Answer):
    path: str
    size: int
    sha256: str
    media_type: str


class Artifact(Answer):
    """One delivered model. `point` is its place in the job's `points`."""

    id: str
    object: Literal["artifact"] = "artifact"
    job_id: str
    point: int
    report: JobPoint
    files: list[ArtifactFile] = Field(description="None when they have gone: see expired_at.")
    created_at: datetime
    expires_at: datetime | None = Field(description="When its files go by themselves; null = never.")
    expired_at: datetime | None = Field(description="When its files went. Its figures stay as long as the job.")


class ArtifactList(Page[Artifact]):
    """Artifacts of the project."""


class Registry(Answer):
    """A registry that the operator has named. `prefixes`: beginnings of the names that may be pushed to; [] = any."""

    name: str
    object: Literal["registry"] = "registry"
    kind: Literal["huggingface", "mlflow"]
    url: str
    prefixes: list[str]


class RegistryList(Answer):
    object: Literal["list"] = "list"
    data: list[Registry]
    has_more: bool = False


class PushResult(Answer):
    """Where the artifact lies. `unchanged`: the registry held it already, and nothing was added."""

    url: str
    commit: str | None = Field(description="Hugging Face: the commit.")
    version: str | None = Field(description="MLflow: the version of the registered model.")
    unchanged: bool


class Push(Answer):
    """An artifact's way to a registry. While it is `queued`, `error` says what the last attempt met."""

    id: str
    object: Literal["push"] = "push"
    artifact_id: str
    registry: str
    to: str
    revision: str | None
    alias: str | None
    status: Literal["queued", "running", "succeeded", "failed"]
    attempt: int
    result: PushResult | None
    error: Problem | None
    created_at: datetime
    finished_at: datetime | None


class PushList(Page[Push]):
    """Pushes of the project."""


class Method(Answer):
    """One mechanism: its card, and the JSON Schema of its step."""

    name: str
    object: Literal["method"] = "method"
    family: str
    version: int
    card: str
    trains: bool
    needs_training: bool
    step_schema: dict[str, Any]


class MethodList(Answer):
    object: Literal["list"] = "list"
    data: list[Method]
    has_more: bool = False


class PresetList(Answer):
    object: Literal["list"] = "list"
    data: list[Preset]
    has_more: bool = False


class SigningKey(Answer):
    """A public key that signs artifacts, as a JWK (RFC 7517, RFC 8037)."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    use: Literal["sig"] = "sig"
    x: str = Field(description="The key: 32 bytes, base64url.")
    kid: str = Field(description="Its name: the JWK's thumbprint (RFC 7638).")
    created_at: datetime = Field(description="When it first signed, or was made to.")
    retired_at: datetime | None = Field(description="It signs no more; what it signed stays valid.")
    endorsed_by: str | None = Field(description="kid of the key that it took over from.")
    endorsement: str | None = Field(
        description="That key's Ed25519 signature, base64url, over the line `ladapress-endorsement-1 <kid>`."
    )


class KeySet(Answer):
    """A JWK Set."""

    keys: list[SigningKey]


class Health(Answer):
    status: Literal["ok"] = "ok"
