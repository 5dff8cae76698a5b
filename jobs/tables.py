"""The tables. Every one but `worker` and `signing_key` has `project_id`, and its queries go through `jobs.scope`.

Times are seconds since 1970 (UTC) by the database's own clock (`jobs.db.db_now`), never by a process' clock.
Alembic builds them (`jobs/migrations`), in tests too; a test holds that both agree.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Double, Enum, ForeignKey, Index, MetaData, String, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

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


class Project(Base):
    """A tenant."""

    __tablename__ = "project"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=db_now())

    @property
    def project_id(self) -> str:
        return self.id


class ApiKey(Base):
    """`hash` is the sha256 of the secret; the secret itself is stored nowhere."""

    __tablename__ = "api_key"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), index=True)
    name: Mapped[str]
    hash: Mapped[str]
    scopes: Mapped[list[str]]
    created_at: Mapped[float] = mapped_column(default=db_now())
    revoked_at: Mapped[float | None]


class Model(Base):
    """An uploaded model: `open` until every declared file is present, then `ready` for good."""

    __tablename__ = "model"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), index=True)
    status: Mapped[str] = mapped_column(default="open")
    name: Mapped[str | None]
    size_bytes: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[float] = mapped_column(default=db_now())


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


class Inspection(Base):
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
    seen_at: Mapped[float]


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


class Job(Base):
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
    finished_at: Mapped[float | None]

    __table_args__ = (
        UniqueConstraint("project_id", "idempotency_key"),
        Index(None, "state", "lease_until"),
        Index(None, "project_id", "state"),
        Index(None, "project_id", "id"),
        Index(None, "project_id", "profile_key"),
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
    """One delivered model. `report` is its `core.report.Point` and whatever the supervisor adds."""

    __tablename__ = "artifact"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    point: Mapped[int]
    fence: Mapped[int]  # of the attempt that published it
    report: Mapped[dict[str, Any]]
    created_at: Mapped[float] = mapped_column(default=db_now())

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


class Audit(Base):
    """Who did what to which object. Only ever appended to."""

    __tablename__ = "audit"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), index=True)
    who: Mapped[str]
    action: Mapped[str]
    object: Mapped[str]
    at: Mapped[float] = mapped_column(default=db_now())
