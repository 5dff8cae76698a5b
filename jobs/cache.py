"""Results that are there already: the same bytes, the same order, the same engine, within one project.

A hit is a job of its own: it has succeeded when it is answered, holds copies of the rows of the artifacts (the blobs
are shared), and outlives the job it was taken from. Nothing is ever taken across projects.
"""

from __future__ import annotations

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from core.recipe import Recipe, Target
from jobs.finish import PublishedFile, PublishedPoint, deliver
from jobs.inputs import contents
from jobs.moves import move
from jobs.requests import JobRequest, digest
from jobs.scope import Scope, scoped
from jobs.states import State
from jobs.tables import Artifact, ArtifactFile, Job
from jobs.workers import engines

# What a result is made from. Not: names, limits, metadata, pushes.
ORDER = ("task", "metric", "ladder", "seed", "resources", "outputs")


def key_of(s: Session, scope: Scope, request: JobRequest, preset: str | None, recipe: Recipe, target: Target) -> str:
    """The same order of the same bytes has the same key, under whatever ids they were uploaded."""
    model, data = contents(s, scope, request.inspection())
    return digest(
        {
            "model": model,
            "data": {role: (row.sha256, row.format) for role, row in data.items()},
            "columns": request.data.columns.model_dump(mode="json"),
            "preset": preset,
            "recipe": recipe.model_dump(mode="json"),
            "target": target.given(),
            **request.model_dump(mode="json", include=set(ORDER)),
        }
    )


def find(s: Session, scope: Scope, key: str, device: str, *, hold: bool = False) -> Job | None:
    """The newest job with this result whose files are all there, made as a living worker would make it now.

    Args:
        hold: keep its files from going until the transaction ends.
    """
    if not (served := engines(s, device)):
        return None
    without = ~exists().where(ArtifactFile.artifact_id == Artifact.id)
    gone = exists().where(Artifact.job_id == Job.id, without)
    some = exists().where(Artifact.job_id == Job.id)
    same = scoped(Job, scope).where(Job.cache_key == key, Job.state == State.SUCCEEDED, Job.engine.in_(served))
    newest = same.where(some, ~gone).order_by(Job.id.desc()).limit(1).execution_options(populate_existing=True)
    found = s.scalars(newest).one_or_none()
    if found is None or not hold:
        return found
    s.execute(select(Artifact.id).where(Artifact.job_id == found.id).order_by(Artifact.id).with_for_update())
    return s.scalars(newest.where(Job.id == found.id)).one_or_none()


def give(s: Session, job: Job, source: Job) -> None:
    """Let a queued job succeed with the result of `source`."""
    points = []
    for artifact in s.scalars(select(Artifact).where(Artifact.job_id == source.id).order_by(Artifact.point)):
        rows = s.scalars(select(ArtifactFile).where(ArtifactFile.artifact_id == artifact.id))
        files = [PublishedFile(row.path, row.size, row.sha256, row.media_type) for row in rows]
        keep_s = None if artifact.expires_at is None else artifact.expires_at - artifact.created_at
        points.append(PublishedPoint(files, artifact.report, keep_s))
    moved = move(
        s,
        job.id,
        State.SUCCEEDED,
        only=(State.QUEUED,),
        reason="cache_hit",
        report=source.report,
        progress=source.progress,
        stage=None,
        cached_from=source.id,
        engine=source.engine,
    )
    assert moved is not None  # noqa: S101 - written in this transaction
    deliver(s, moved, points)
