"""Profiles: measured by a job, stored once for a model, its text and the open steps of a recipe, used again by all.

A plan that needs one starts a dry run: a job like any other that ends when everything is planned.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.profile import VERSION
from core.profile import Profile as Measured
from core.recipe import Ladder, Recipe, Target
from jobs.db import insert_once
from jobs.events import stored
from jobs.ids import new_id
from jobs.inputs import contents
from jobs.requests import PlanRequest, digest
from jobs.scope import Scope, scoped
from jobs.states import HELD
from jobs.tables import Job, Profile


def key_of(s: Session, scope: Scope, request: PlanRequest, recipe: Recipe, target: Target) -> str | None:
    """The same question of the same bytes has the same key; None where the recipe asks for no profile."""
    asked = (request.ladder or Ladder()).targets(target)
    if not any(recipe.open_for(each) for each in asked):
        return None
    model, data = contents(s, scope, request.inspection())
    return digest(
        {
            "model": model,
            "data": {role: row.sha256 for role, row in data.items() if role != "eval"},  # that decides nothing
            "columns": request.data.columns.model_dump(mode="json"),
            "seed": request.seed,
            "task": request.task,
            "metric": request.metric,
            "device": request.resources.device,
            "steps": recipe.profiled(),
            "times": any(recipe.is_paced(each) for each in asked),
            "version": VERSION,
        }
    )


def find(s: Session, project_id: str, key: str | None) -> Measured | None:
    """The stored profile; None where there is none, or where an older version wrote it."""
    if key is None:
        return None
    query = select(Profile).where(Profile.project_id == project_id, Profile.key == key)
    row = s.scalars(query.execution_options(populate_existing=True)).one_or_none()
    try:
        return None if row is None else Measured.model_validate(row.body)
    except ValidationError:
        return None


def keep(s: Session, job_id: str, fence: int, body: dict[str, Any]) -> bool:
    """Store what a running job measured, in place of what was there: its latency table is of the machine at work.

    False: the fence is lost, or the job needs no profile; nothing is written then.
    """
    held = (Job.id == job_id, Job.fence == fence, Job.state.in_(HELD))
    job = s.scalars(select(Job).where(*held).execution_options(populate_existing=True)).one_or_none()
    if job is None or job.profile_key is None:
        return False
    s.execute(delete(Profile).where(Profile.project_id == job.project_id, Profile.key == job.profile_key))
    insert_once(
        s,
        Profile,
        id=new_id("prof"),
        project_id=job.project_id,
        model_id=job.spec["model"],
        key=job.profile_key,
        body=stored(body),
    )
    return True


def making(s: Session, scope: Scope, key: str) -> Job | None:
    """The newest dry run for this profile."""
    runs = scoped(Job, scope).where(Job.profile_key == key, Job.dry_run.is_(True)).order_by(Job.id.desc()).limit(1)
    return s.scalars(runs.execution_options(populate_existing=True)).one_or_none()


def forget(s: Session, scope: Scope, model_id: str) -> None:
    """Remove the profiles of a model."""
    s.execute(delete(Profile).where(Profile.project_id == scope.project_id, Profile.model_id == model_id))
