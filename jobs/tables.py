"""The tables. Every one but `worker`, `signing_key` and `tally` has `project_id`; queries go through `jobs.scope`.

Times are seconds since 1970 (UTC) by the database's own clock (`jobs.db.db_now`), never by a process' clock.
Alembic builds them (`jobs/migrations`), in tests too; a test holds that both agree. One file past 350 lines, since a
schema is read as a whole.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Double, Enum, ForeignKey, Index, MetaData, String, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jobs import origin, traces
from jobs.clock import db_now
from jobs.states import State


class Base(DeclarativeBase):
    # Constraint names are fixed, so that SQLite's batch migrations can find them.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: String(),
        int: BigInteger(),
        float: Double(),
        # json, not jsonb: it keeps the order of keys and takes every string that JSON can spell.
        dict[str, Any]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
    }


class Asked:
    """Which request made a row, and the trace that it belongs to (W3C traceparent): for logs and spans only."""

    request_id: Mapped[str | None] = mapped_column(default=origin.request_id)
    traceparent: Mapped[str | None] = mapped_column(default=traces.current)


class Project(Base):
    """A tenant. One that was deleted keeps its row, which its audit log hangs on."""

    __tablename__ = "project"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=db_now())
    deleted_at: Mapped[float | None]

    @property
    def project_id(self) -> str:
        return self.id


class Quota(Base):
    """What one project may have, other than the settings say: see `jobs.quotas`. A null value is no limit."""

    __tablename__ = "quota"
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int | None]


class Usage(Base):
    """Seconds for which jobs held hardware ("cpu", "cuda") in a month ("2026-11", UTC): see `jobs.usage`."""

    __tablename__ = "usage"
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), primary_key=True)
    month: Mapped[str] = mapped_column(primary_key=True)
    hardware: Mapped[str] = mapped_column(primary_key=True)
    seconds: Mapped[float]


class ApiKey(Base):
    """`hash` is the sha256 of the secret; the secret itself is stored nowhere. The one before it, if there was one,
    is good until `previous_until`. `last_used_at` is right to the minute."""

    __tablename__ = "api_key"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), index=True)
    name: Mapped[str]
    hash: Mapped[str]
    scopes: Mapped[list[str]]
    created_at: Mapped[float] = mapped_column(default=db_now())
    revoked_at: Mapped[float | None]
    expires_at: Mapped[float | None]
    previous_hash: Mapped[str | None]
    previous_until: Mapped[float | None]
    last_used_at: Mapped[float | None]


class Model(Base):
    """An uploaded model: `open` until every declared file is present, then `ready` for good."""

    __tablename__ = "model"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), index=True)
    status: Mapped[str] = mapped_column(default="open")
    name: Mapped[str | None]
    size_bytes: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[float] = mapped_column(default=db_now())
    expires_at: Mapped[float | None] = mapped_column(index=True)


class ModelFile(Base):
    """One file of a model. `size` (bytes) and `sha256` are what the user announced, then what arrived."""

    __tablename__ = "model_file"
    model_id: Mapped[str] = mapped_column(ForeignKey("model.id"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    size: Mapped[int | None]
    sha256: Mapped[str | None]
    present: Mapped[bool] = mapped_column(default=False)

    __table_args__ = (Index(None, "project_id", "sha256"),)


class Dataset(Base):
    """An uploaded file of rows. `size` in bytes; `format` is csv, jsonl or parquet."""

    __tablename__ = "dataset"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), index=True)
    name: Mapped[str | None]
    format: Mapped[str]
    size: Mapped[int]
    sha256: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=db_now())
    expires_at: Mapped[float | None] = mapped_column(index=True)

    __table_args__ = (Index(None, "project_id", "sha256"),)


class Upload(Base):
    """A resumable upload: `open`, then `complete`. `received` of `length` bytes are safe; `spec` says what it becomes.

    `purpose` is dataset (then `dataset_id` is what it became) or model_file.
    """

    __tablename__ = "upload"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    purpose: Mapped[str]
    spec: Mapped[dict[str, Any]]
    sha256: Mapped[str]
    length: Mapped[int]
    received: Mapped[int] = mapped_column(default=0)
    state: Mapped[str] = mapped_column(default="open")
    dataset_id: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=db_now())
    expires_at: Mapped[float] = mapped_column(index=True)

    __table_args__ = (Index(None, "project_id", "state"),)


class Inspection(Asked, Base):
    """A verdict on one (model, data, columns, task, metric): queued, running, then done with a verdict."""

    __tablename__ = "inspection"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    key: Mapped[str]
    spec: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(default="queued")
    verdict: Mapped[dict[str, Any] | None]
    fence: Mapped[int] = mapped_column(default=0)
    attempt: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[float | None]
    hinted_at: Mapped[float | None]
    worker: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=db_now())
    finished_at: Mapped[float | None]

    __table_args__ = (UniqueConstraint("project_id", "key"), Index(None, "state", "created_at"))

    @property
    def verdict_ok(self) -> bool:
        return bool(self.verdict and self.verdict.get("ok"))


class Worker(Base):
    """A worker process that takes jobs; `id` is its name, host:pid. Workers serve every project."""

    __tablename__ = "worker"
    id: Mapped[str] = mapped_column(primary_key=True)
    devices: Mapped[list[str]]
    engine: Mapped[str | None]  # see `Job.engine`
    seen_at: Mapped[float]


class Tally(Base):
    """A count or a sum since the beginning, of every project together: see `jobs.tallies`."""

    __tablename__ = "tally"
    id: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]


class SigningKey(Base):
    """The public half of a key that signs artifacts, of every project. `id` is its JWK thumbprint, `x` the key itself.

    `endorsement` is the signature of the key `endorsed_by` over this one's id: see `jobs.signing`.
    """

    __tablename__ = "signing_key"
    id: Mapped[str] = mapped_column(primary_key=True)
    x: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=db_now())
    retired_at: Mapped[float | None]
    endorsed_by: Mapped[str | None]
    endorsement: Mapped[str | None]


class Job(Asked, Base):
    """The truth about one job. `state` moves only in `jobs.moves.move`; `fence` rises at every claim."""

    __tablename__ = "job"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str | None]
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    spec: Mapped[dict[str, Any]]
    device: Mapped[str] = mapped_column(default="auto")
    state: Mapped[State] = mapped_column(
        Enum(State, native_enum=False, length=16, values_callable=lambda states: [s.value for s in states]),
        default=State.QUEUED,
    )
    stage: Mapped[str | None]
    claimable: Mapped[bool] = mapped_column(default=False)
    priority: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)
    attempt: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    lease_until: Mapped[float | None]
    heartbeat_at: Mapped[float | None]
    hinted_at: Mapped[float | None]
    cancel_requested_at: Mapped[float | None]
    max_pending_s: Mapped[float | None]
    inspection_id: Mapped[str | None] = mapped_column(ForeignKey("inspection.id"), index=True)
    dry_run: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    profile_key: Mapped[str | None]  # of the profile that it measures, or finds measured
    parent_job_id: Mapped[str | None]  # of a retry: the job that it does again, which may be gone
    cache_key: Mapped[str | None]  # same bytes in, same question: see `jobs.cache`
    cached_from: Mapped[str | None]  # the job whose result this one was given
    engine: Mapped[str | None]  # digest of the code, versions and processor of the last attempt
    event_seq: Mapped[int] = mapped_column(default=0)
    progress: Mapped[dict[str, Any] | None]
    report: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    idempotency_key: Mapped[str | None]
    idempotency_hash: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=db_now())
    queued_at: Mapped[float] = mapped_column(default=db_now())
    claimed_at: Mapped[float | None]  # of the last attempt
    started_at: Mapped[float | None]  # of the first attempt
    used_s: Mapped[float] = mapped_column(default=0.0, server_default=text("0"))  # held by earlier attempts
    hardware: Mapped[str | None]  # "cpu" or "cuda", of the last attempt
    metered_at: Mapped[float | None]  # since when its holder's time is not in `usage` yet; null while nobody holds it
    finished_at: Mapped[float | None]

    __table_args__ = (
        UniqueConstraint("project_id", "idempotency_key"),
        Index(None, "state", "lease_until"),
        Index(None, "project_id", "state"),
        Index(None, "project_id", "id"),
        Index(None, "project_id", "profile_key"),
        Index(None, "project_id", "cache_key"),
    )


class Profile(Base):
    """What a model can spare (`core.profile.Profile`), by what was asked and of what: see `jobs.profiles`."""

    __tablename__ = "profile"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    model_id: Mapped[str] = mapped_column(index=True)
    key: Mapped[str]
    body: Mapped[dict[str, Any]]
    created_at: Mapped[float] = mapped_column(default=db_now())

    __table_args__ = (UniqueConstraint("project_id", "key"),)


class JobInput(Base):
    """Which model and datasets a job needs, by role. They may be deleted after it ended."""

    __tablename__ = "job_input"
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    object_id: Mapped[str] = mapped_column(index=True)


class Event(Base):
    """What happened to a job. `seq` is 1, 2, 3 ... per job, with no gap at any time."""

    __tablename__ = "event"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    seq: Mapped[int]
    type: Mapped[str]
    at: Mapped[float] = mapped_column(default=db_now())
    data: Mapped[dict[str, Any]]

    __table_args__ = (UniqueConstraint("job_id", "seq"),)


class Checkpoint(Base):
    """Where a running job stood. `files`: name -> sha256 in the store; `fence`: of the attempt that wrote it."""

    __tablename__ = "checkpoint"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), index=True)
    fence: Mapped[int]
    number: Mapped[int]  # counts up within the job
    files: Mapped[dict[str, Any]]


class Artifact(Base):
    """One delivered model. `report` is its `core.report.Point` and whatever the supervisor adds.

    Its files are gone from `expired_at` on; its figures stay as long as the job does.
    """

    __tablename__ = "artifact"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    point: Mapped[int]
    fence: Mapped[int]  # of the attempt that published it
    report: Mapped[dict[str, Any]]
    created_at: Mapped[float] = mapped_column(default=db_now())
    expires_at: Mapped[float | None] = mapped_column(index=True)
    expired_at: Mapped[float | None]

    __table_args__ = (UniqueConstraint("job_id", "point"),)


class ArtifactFile(Base):
    """One file of an artifact; `size` in bytes, the blob lies in the store under its sha256."""

    __tablename__ = "artifact_file"
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifact.id"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    size: Mapped[int]
    sha256: Mapped[str]
    media_type: Mapped[str]

    __table_args__ = (Index(None, "project_id", "sha256"),)


class Push(Base):
    """An artifact's way to a registry: `queued`, `running`, then `succeeded` with a result or `failed` with an error.

    `spec` is the PushRequest as JSON. No address and no token of a registry is stored: see `jobs.registries`.
    """

    __tablename__ = "push"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), index=True)
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifact.id"), index=True)
    spec: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(default="queued")
    fence: Mapped[int] = mapped_column(default=0)
    attempt: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    lease_until: Mapped[float | None]
    not_before: Mapped[float] = mapped_column(default=db_now())  # of the next attempt
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]  # of the last attempt
    created_at: Mapped[float] = mapped_column(default=db_now())
    finished_at: Mapped[float | None]

    __table_args__ = (Index(None, "state", "not_before"),)


class Replay(Base):
    """A POST with an idempotency key: in flight while `status` is null, then with its answer. See `jobs.replays`."""

    __tablename__ = "replay"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    path: Mapped[str]
    key: Mapped[str]
    fingerprint: Mapped[str]
    lease_until: Mapped[float]
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None]
    body: Mapped[str | None]
    created_at: Mapped[float] = mapped_column(default=db_now(), index=True)

    __table_args__ = (UniqueConstraint("project_id", "path", "key"),)


class WebhookEndpoint(Base):
    """Who is told of events. `secret` and `old_secret` are sealed (`jobs.webhooks.keyring`)."""

    __tablename__ = "webhook_endpoint"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), index=True)
    url: Mapped[str]
    events: Mapped[list[str]]
    description: Mapped[str]
    enabled: Mapped[bool]
    disabled_reason: Mapped[str | None]  # where we disabled it
    secret: Mapped[str]
    old_secret: Mapped[str | None]  # signs too, until old_secret_until
    old_secret_until: Mapped[float | None]
    failing_since: Mapped[float | None]  # the first failure after the last success
    created_at: Mapped[float] = mapped_column(default=db_now())


class WebhookDelivery(Base):
    """One message to one endpoint: `queued`, `running`, then `succeeded` or `failed`. `id` is the webhook-id.

    Inserted by the transaction that it tells of. `body` is what is sent, byte for byte, at each attempt.
    """

    __tablename__ = "webhook_delivery"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoint.id"), index=True)
    type: Mapped[str]
    body: Mapped[str]
    state: Mapped[str] = mapped_column(default="queued")
    fence: Mapped[int] = mapped_column(default=0)
    tries: Mapped[int] = mapped_column(default=0)  # since it was queued or replayed
    lease_until: Mapped[float | None]
    not_before: Mapped[float] = mapped_column(default=db_now())  # of the next attempt
    created_at: Mapped[float] = mapped_column(default=db_now())
    finished_at: Mapped[float | None]

    __table_args__ = (Index(None, "state", "not_before"), Index(None, "created_at"))


class WebhookAttempt(Base):
    """What one attempt of a delivery came to. `answer` is the beginning of what was answered."""

    __tablename__ = "webhook_attempt"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_delivery.id"), index=True)
    at: Mapped[float] = mapped_column(default=db_now())  # of its end
    duration_s: Mapped[float]
    status_code: Mapped[int | None]
    error: Mapped[str | None]
    answer: Mapped[str | None]


class Track(Base):
    """How far a job's events have come on their way to an MLflow server; `finished_at`: when its run was ended there.

    `spec` is the TrackRequest as JSON.
    """

    __tablename__ = "track"
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    spec: Mapped[dict[str, Any]]
    run_id: Mapped[str | None]
    sent_seq: Mapped[int] = mapped_column(default=0)  # of the last event that is there
    fence: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)  # in a row
    lease_until: Mapped[float | None]
    not_before: Mapped[float] = mapped_column(default=db_now())
    error: Mapped[dict[str, Any] | None]  # of the last failure
    finished_at: Mapped[float | None]

    __table_args__ = (Index(None, "finished_at", "not_before"),)


class Audit(Base):
    """Who did what to which object. Only ever appended to."""

    __tablename__ = "audit"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), index=True)
    who: Mapped[str]
    action: Mapped[str]
    object: Mapped[str]
    at: Mapped[float] = mapped_column(default=db_now())
