"""From rows to answers. Each function reads in the caller's session, all rows of a page at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from sqlalchemy.orm import Session

from api import schemas, schemas_events
from core.forecast import Forecast
from jobs import service, tables
from jobs.clock import now
from jobs.problem import Problem
from jobs.scope import Scope, scoped
from jobs.service import Planned, transitions
from jobs.states import HELD, TERMINAL, State


def page(rows: Sequence[Any], answers: Sequence[Any], more: bool) -> dict[str, Any]:
    """The fields of a `schemas.Page`."""
    return {
        "data": list(answers),
        "has_more": more,
        "first_id": rows[0].id if rows else None,
        "last_id": rows[-1].id if rows else None,
    }


def models(s: Session, scope: Scope, rows: Sequence[tables.Model]) -> list[schemas.Model]:
    """Models with their files."""
    files: dict[str, list[tables.ModelFile]] = {row.id: [] for row in rows}
    wanted = scoped(tables.ModelFile, scope).where(tables.ModelFile.model_id.in_(files))
    for file in s.scalars(wanted.order_by(tables.ModelFile.path)):
        files[file.model_id].append(file)
    return [
        schemas.Model(
            id=row.id,
            name=row.name,
            status="ready" if row.status == "ready" else "open",
            size_bytes=row.size_bytes,
            files=[
                schemas.ModelFile(path=file.path, size=file.size, sha256=file.sha256, present=file.present)
                for file in files[row.id]
            ],
            missing=[file.path for file in files[row.id] if not file.present],
            created_at=time(row.created_at),
            expires_at=maybe(row.expires_at),
        )
        for row in rows
    ]


def dataset(row: tables.Dataset) -> schemas.Dataset:
    """A dataset."""
    return schemas.Dataset.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "format": row.format,
            "size_bytes": row.size,
            "sha256": row.sha256,
            "created_at": row.created_at,
            "expires_at": row.expires_at,
        }
    )


def inspection(row: tables.Inspection) -> schemas.Inspection:
    """An inspection with its verdict, if there is one."""
    verdict = row.verdict or {}
    error, findings = verdict.get("error"), verdict.get("findings") or ()
    return schemas.Inspection.model_validate(
        {
            **{name: row.spec[name] for name in ("model", "data", "task", "metric")},
            "id": row.id,
            "status": row.state,
            "ok": verdict.get("ok"),
            "error": Problem.from_error(error) if error else None,
            "shape": verdict.get("shape"),
            "rows": verdict.get("rows") or {},
            "findings": findings,
            "warnings": [one["detail"] for one in findings if one["severity"] == "warning"],
            "classes": verdict.get("classes") or {},
            "lengths": verdict.get("lengths") or {},
            "estimate": verdict.get("estimate"),
            "created_at": row.created_at,
            "finished_at": row.finished_at,
        }
    )


def jobs(s: Session, scope: Scope, rows: Sequence[tables.Job], lease_s: float) -> list[schemas.Job]:
    """Jobs with their history and results. `lease_s` is the time after which a silent worker has lost its job."""
    ids = [row.id for row in rows]
    histories = transitions(s, scope, ids)
    points: dict[str, list[tables.Artifact]] = {job_id: [] for job_id in ids}
    artifacts = scoped(tables.Artifact, scope).where(tables.Artifact.job_id.in_(ids))
    for artifact in s.scalars(artifacts.order_by(tables.Artifact.point)):
        points[artifact.job_id].append(artifact)
    asked_at = now(s)
    return [_job(row, histories[row.id], points[row.id], asked_at, lease_s) for row in rows]


def _job(
    row: tables.Job,
    history: Sequence[tables.Event],
    points: Sequence[tables.Artifact],
    asked_at: float,
    lease_s: float,
) -> schemas.Job:
    spec = row.spec
    same = ("model", "data", "task", "metric", "preset", "recipe", "target", "ladder", "seed", "resources", "limits")
    silent_s = asked_at - (row.heartbeat_at or asked_at)
    delivered = [point(artifact) for artifact in points]
    return schemas.Job.model_validate(
        {
            **{name: spec[name] for name in same},
            "outputs": spec.get("outputs", []),  # specs of before have none
            "id": row.id,
            "status": row.state,
            "stage": row.stage,
            "name": row.name,
            "push": spec.get("push"),  # specs of before have none
            "webhook": spec.get("webhook"),
            "track": spec.get("track"),
            "dry_run": row.dry_run,
            "cache": spec.get("cache", "bypass"),  # jobs of before knew no cache
            "cache_hit": row.cached_from is not None,
            "cached_from": row.cached_from,
            "parent_job_id": row.parent_job_id,
            "metadata": row.meta,
            "attempt": row.attempt,
            "progress": row.progress or {},
            "heartbeat_at": row.heartbeat_at,
            "stalled": row.state in HELD and silent_s > lease_s / 2,
            "status_transitions": [
                {"status": event.data["state"], "at": event.at, **_only(event.data, "attempt", "reason")}
                for event in history
                if event.type == "state"
            ],
            "stage_seconds": stage_seconds(history),
            "created_at": row.created_at,
            "started_at": row.started_at,
            "finished_at": row.finished_at,
            "error": row.error,
            "target_met": any(one.target_met for one in delivered) if delivered else None,
            "points": delivered,
            "report": row.report,
        }
    )


def plan(found: Planned, points: Sequence[Forecast]) -> schemas.Plan:
    """A plan, as far as it is known."""
    return schemas.Plan(
        status="done" if points else "profiling" if found.making else "inspecting",
        inspection_id=found.inspection.id,
        job_id=None if found.making is None else found.making.id,
        points=list(points),
        estimate=found.rough,
    )


def stage_seconds(history: Sequence[tables.Event]) -> dict[str, float]:
    """Time per stage of the last attempt. A claim begins stage "fetch"; whatever ends the attempt ends its stage."""
    seconds: dict[str, float] = {}
    stage, since = None, 0.0
    for event in history:
        entered = event.data.get("stage") if event.type == "stage" else event.data.get("state")
        if entered in (State.CANCELLING, State.PAUSING):
            continue  # the worker still runs
        if stage is not None:
            seconds[stage] = seconds.get(stage, 0.0) + max(0.0, event.at - since)
        if event.type == "stage":
            stage = str(entered)
        elif entered == State.RUNNING:
            seconds, stage = {}, "fetch"
        else:
            stage = None
        since = event.at
    return seconds


def point(row: tables.Artifact) -> schemas.JobPoint:
    """The figures of a delivered model."""
    return schemas.JobPoint.model_validate({**row.report, "artifact_id": row.id})


def artifacts(s: Session, scope: Scope, rows: Sequence[tables.Artifact]) -> list[schemas.Artifact]:
    """Delivered models with their files."""
    files: dict[str, list[tables.ArtifactFile]] = {row.id: [] for row in rows}
    wanted = scoped(tables.ArtifactFile, scope).where(tables.ArtifactFile.artifact_id.in_(files))
    for file in s.scalars(wanted.order_by(tables.ArtifactFile.path)):
        files[file.artifact_id].append(file)
    return [_artifact(row, files[row.id]) for row in rows]


def _artifact(row: tables.Artifact, files: Sequence[tables.ArtifactFile]) -> schemas.Artifact:
    return schemas.Artifact(
        id=row.id,
        job_id=row.job_id,
        point=row.point,
        report=point(row),
        files=[
            schemas.ArtifactFile(path=file.path, size=file.size, sha256=file.sha256, media_type=file.media_type)
            for file in files
        ],
        created_at=time(row.created_at),
        expires_at=maybe(row.expires_at),
        expired_at=maybe(row.expired_at),
    )


def push(row: tables.Push) -> schemas.Push:
    """A push as far as it has come."""
    return schemas.Push.model_validate(
        {
            **row.spec,
            "id": row.id,
            "artifact_id": row.artifact_id,
            "status": row.state,
            "attempt": row.attempt,
            "result": row.result,
            "error": row.error,
            "created_at": row.created_at,
            "finished_at": row.finished_at,
        }
    )


def signing_key(row: tables.SigningKey) -> schemas.SigningKey:
    """A public key as a JWK."""
    return schemas.SigningKey(
        kid=row.id,
        x=row.x,
        created_at=time(row.created_at),
        retired_at=maybe(row.retired_at),
        endorsed_by=row.endorsed_by,
        endorsement=row.endorsement,
    )


def event(row: service.Told) -> schemas_events.JobEvent:
    """One event of a job."""
    return schemas_events.JobEvent(
        id=row.id, job_id=row.job_id, seq=row.seq, type=row.type, at=time(row.at), data=row.data
    )


def gaps(numbers: Sequence[int], after: int) -> list[schemas_events.Gap]:
    """The sequence numbers between `after` and the last of `numbers` that are not among them."""
    seen = [after, *numbers]
    return [schemas_events.Gap(first=one + 1, last=two - 1) for one, two in pairwise(seen) if two > one + 1]


def curves(rows: Sequence[tables.Event]) -> list[schemas_events.JobCurve]:
    """Curves from the "metric" events of a job."""
    found: dict[str, list[schemas_events.JobCurvePoint]] = {}
    for row in rows:
        told = schemas_events.JobCurvePoint(seq=row.seq, at=time(row.at), **_only(row.data, "step", "value"))
        found.setdefault(row.data["name"], []).append(told)
    return [schemas_events.JobCurve(name=name, points=points) for name, points in sorted(found.items())]


def is_last(row: service.Told) -> bool:
    """Whether nothing can follow this event."""
    return row.type == "state" and row.data.get("state") in TERMINAL


def time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def maybe(seconds: float | None) -> datetime | None:
    return None if seconds is None else time(seconds)


def _only(data: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: data.get(name) for name in names}
