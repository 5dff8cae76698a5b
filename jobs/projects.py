"""Projects: the tenants that a machine's operator makes, limits and removes. No route of the API does any of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from jobs.clock import now
from jobs.ids import new_id
from jobs.problem import refuse
from jobs.quotas import hold
from jobs.scope import DEFAULT_PROJECT, Scope, audit
from jobs.settings import QUOTAS
from jobs.states import TERMINAL
from jobs.tables import Audit, Base, Job, Project, Quota

OPERATOR = "operator"  # in the audit log
KEPT = (Project.__tablename__, Audit.__tablename__)


def create_project(s: Session, name: str) -> Project:
    """A new, empty project. Raises Refused (request_invalid): another one has this name."""
    hold(s, DEFAULT_PROJECT)  # two that are made at once see each other
    if name.startswith("proj_") or not name.strip():
        raise refuse("request_invalid", "a project's name is not blank and does not begin with proj_", param="name")
    if any(row.name == name for row in projects(s)):
        raise refuse("request_invalid", f"a project {name!r} is there already", param="name")
    project = Project(id=new_id("proj"), name=name)
    s.add(project)
    s.flush()
    audit(s, Scope(project.id, who=OPERATOR), "project.create", project.id)
    return project


def projects(s: Session) -> Sequence[Project]:
    """Every project that was not deleted, oldest first."""
    return s.scalars(select(Project).where(Project.deleted_at.is_(None)).order_by(Project.id)).all()


def find_project(s: Session, name_or_id: str) -> Project:
    """Raises Refused: not_found; request_invalid where several have the name."""
    found = [row for row in projects(s) if name_or_id in (row.id, row.name)]
    if len(found) > 1:
        raise refuse("request_invalid", f"{len(found)} projects are called {name_or_id!r}; give an id", param="project")
    if not found:
        raise refuse("not_found", f"no project has the name or id {name_or_id!r}", param="project")
    return found[0]


def living(s: Session, project_id: str) -> bool:
    """Whether a project is there and was not deleted."""
    query = select(Project.id).where(Project.id == project_id, Project.deleted_at.is_(None))
    return s.scalars(query).one_or_none() is not None


def set_quotas(s: Session, project_id: str, values: Mapping[str, int | str | None]) -> None:
    """Give a project quotas of its own: a number, None for no limit, "default" for what the settings say.

    Raises:
        Refused: request_invalid, for a name that is none of a quota.
    """
    if unknown := sorted(set(values) - set(QUOTAS)):
        raise refuse("request_invalid", f"no quota {', '.join(unknown)}; legal: {', '.join(QUOTAS)}", param="quota")
    hold(s, project_id)
    s.execute(delete(Quota).where(Quota.project_id == project_id, Quota.name.in_(values)))
    own = {name: value for name, value in values.items() if not isinstance(value, str)}
    s.add_all(Quota(project_id=project_id, name=name, value=value) for name, value in own.items())
    audit(s, Scope(project_id, who=OPERATOR), "project.quota", project_id)
    s.flush()


def contents(s: Session, project_id: str) -> dict[str, int]:
    """Table -> rows of a project, where there are any; what deleting it would remove."""
    tables = {table.name: table for table in Base.metadata.sorted_tables if "project_id" in table.columns}
    counts = {
        name: s.scalars(select(func.count()).select_from(table).where(table.c.project_id == project_id)).one()
        for name, table in tables.items()
        if name not in KEPT
    }
    return {name: count for name, count in counts.items() if count}


def delete_project(s: Session, project_id: str) -> None:
    """Remove a project with its keys, models, jobs and artifacts; bytes go with the next sweep, the audit log stays.

    Raises:
        Refused: request_invalid (the default project), in_use (a job has not ended).
    """
    if project_id == DEFAULT_PROJECT:
        raise refuse("request_invalid", "the default project cannot be deleted", param="project")
    hold(s, project_id)
    busy = select(Job.id).where(Job.project_id == project_id, Job.state.not_in(sorted(TERMINAL))).limit(3)
    if jobs := s.scalars(busy).all():
        raise refuse("in_use", f"jobs have not ended: {', '.join(jobs)} ...; cancel them first")
    for table in reversed(Base.metadata.sorted_tables):
        if "project_id" in table.columns and table.name not in KEPT:
            s.execute(delete(table).where(table.c.project_id == project_id))
    project = s.get_one(Project, project_id)
    project.deleted_at = now(s)
    audit(s, Scope(project_id, who=OPERATOR), "project.delete", project_id)
    s.flush()
