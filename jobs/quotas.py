"""Quotas: what a project may have. The settings give the defaults, table `quota` what one project has instead.

Each check counts under a lock on the project's row, after its own row was written: of two that take the last place at
the same moment, one sees the other. The lock comes last in every transaction (jobs, models and datasets before it), so
that nobody waits in a circle; where nothing is limited, nothing is locked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from jobs import usage
from jobs.problem import Refused, refuse
from jobs.scope import Scope
from jobs.settings import QUOTAS
from jobs.states import HELD, State
from jobs.tables import Job, Project, Quota

WAITING = (State.QUEUED, State.PAUSED)  # a paused job comes back without asking again
FRESH = {"populate_existing": True}
MINUTES = {"cuda": "gpu_minutes", "cpu": "cpu_minutes"}
WHAT = {
    "queued_jobs": "jobs that wait",
    "running_jobs": "jobs that run",
    "stored_bytes": "stored bytes",
    "gpu_minutes": "GPU minutes of this month (UTC)",
    "cpu_minutes": "CPU minutes of this month (UTC)",
}


def limits(s: Session, project_id: str, defaults: Mapping[str, int | None]) -> dict[str, int | None]:
    """Every quota of a project by name; None = no limit."""
    own = s.execute(select(Quota.name, Quota.value).where(Quota.project_id == project_id))
    return {**dict.fromkeys(QUOTAS), **defaults, **{name: value for name, value in own if name in QUOTAS}}


def used(s: Session, project_id: str, names: Collection[str] = QUOTAS) -> dict[str, int]:
    """What a project has of these quotas now; minutes are whole ones, rounded down."""
    have: dict[str, int] = {}
    if {"queued_jobs", "running_jobs"} & set(names):
        states = usage.by_state(s, project_id)
        have["queued_jobs"] = sum(states.get(state, 0) for state in WAITING)
        have["running_jobs"] = sum(states.get(state, 0) for state in HELD)
    if "stored_bytes" in names:
        have["stored_bytes"] = sum(usage.stored(s, project_id).values())
    if set(MINUTES.values()) & set(names):
        spent = usage.seconds(s, projects=[project_id]).get(project_id, {})
        have |= {name: int(spent.get(hardware, 0.0) // 60) for hardware, name in MINUTES.items()}
    return have


def foresee_submit(s: Session, scope: Scope, device: str) -> None:
    """Refuse a job that could not be submitted now, before anybody works for it. `check_submit` decides.

    Raises:
        Refused: quota_exceeded, quota_used_up.
    """
    _check_submit(s, scope, device, more=1)


def check_submit(s: Session, scope: Scope, device: str) -> None:
    """Refuse the job that this transaction has just written where the project has no room for it.

    Raises:
        Refused: quota_exceeded (too many jobs wait), quota_used_up (bytes or minutes).
    """
    if _limited(s, scope):
        hold(s, scope.project_id)
        _check_submit(s, scope, device, more=0)


def foresee_bytes(s: Session, scope: Scope, more: int) -> None:
    """Refuse `more` bytes before they are read where they cannot be kept. `check_bytes` decides.

    Raises:
        Refused: quota_used_up.
    """
    allowed = _limited(s, scope)
    if "stored_bytes" not in allowed:
        return
    have = used(s, scope.project_id, ["stored_bytes"])
    have["stored_bytes"] += more
    if have["stored_bytes"] > allowed["stored_bytes"]:
        raise _full("stored_bytes", allowed, have, " with this; delete models, datasets or jobs first")


def check_bytes(s: Session, scope: Scope) -> None:
    """Refuse what this transaction has just stored where the project has no room for it. Raises Refused (as above)."""
    if "stored_bytes" in _limited(s, scope):
        hold(s, scope.project_id)
        foresee_bytes(s, scope, 0)


def hold(s: Session, project_id: str) -> None:
    """Have the project's row to oneself until the transaction ends; rows that only refer to it go on."""
    s.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))


def startable(
    s: Session, defaults: Mapping[str, int | None] | None, devices: Collection[str] | None
) -> list[ColumnElement[bool]]:
    """Conditions on jobs that a worker may claim: none of a project that is at its limit of running jobs or minutes."""
    own = {(row.project_id, row.name): row.value for row in s.scalars(select(Quota).execution_options(**FRESH))}
    if defaults is None or not any(value is not None for value in (*defaults.values(), *own.values())):
        return []
    held = select(Job.project_id, func.count()).where(Job.state.in_(HELD)).group_by(Job.project_id)
    spent = usage.seconds(s)
    have: dict[str, dict[str, float]] = {
        "running_jobs": {project: float(count) for project, count in s.execute(held)},
        **{name: {project: by[kind] / 60 for project, by in spent.items()} for kind, name in MINUTES.items()},
    }

    def at_limit(name: str) -> list[str]:
        known = {*have[name], *(project for project, quota in own if quota == name)}
        if defaults.get(name) == 0:  # also those that have nothing are full
            known.update(s.scalars(select(Project.id)))
        allowed = {project: own.get((project, name), defaults.get(name)) for project in known}
        return sorted(one for one, most in allowed.items() if most is not None and have[name].get(one, 0) >= most)

    conditions: list[ColumnElement[bool]] = [Job.project_id.not_in(at_limit("running_jobs"))]
    for kind, name in MINUTES.items():
        conditions.append(or_(usage.hardware(devices) != kind, Job.project_id.not_in(at_limit(name))))
    return conditions


def may_start(s: Session, project_id: str, defaults: Mapping[str, int | None] | None) -> bool:
    """Whether one more job of the project may run; it cannot change until the transaction ends."""
    allowed = limits(s, project_id, defaults)["running_jobs"] if defaults is not None else None
    if allowed is None:
        return True
    hold(s, project_id)
    held = select(func.count()).select_from(Job).where(Job.project_id == project_id, Job.state.in_(HELD))
    return s.scalars(held).one() < allowed


def _limited(s: Session, scope: Scope) -> dict[str, int]:
    """The quotas that say something; a scope without any is not asked about."""
    own = limits(s, scope.project_id, scope.quotas) if scope.quotas else {}
    return {name: most for name, most in own.items() if most is not None}


def _check_submit(s: Session, scope: Scope, device: str, *, more: int) -> None:
    allowed = _limited(s, scope)
    have = used(s, scope.project_id, allowed)
    full = {name for name, most in allowed.items() if have[name] >= most}
    if "stored_bytes" in full:
        raise _full("stored_bytes", allowed, have, "; delete something first")
    # A job for "auto" runs on whatever is left.
    minutes = [name for kind, name in MINUTES.items() if device in (kind, "auto")]
    if full.issuperset(minutes):
        raise _full(minutes[0], allowed, have, "; the next month begins with none")
    have_others = have.get("queued_jobs", 0) - (1 - more)
    if "queued_jobs" in allowed and have_others >= allowed["queued_jobs"]:
        raise _full("queued_jobs", allowed, {"queued_jobs": have_others}, "", retry=allowed["queued_jobs"] > 0)


def _full(
    name: str, allowed: Mapping[str, int], used_now: Mapping[str, int], hint: str, *, retry: bool = False
) -> Refused:
    limit, have = allowed[name], used_now[name]
    detail = f"quota {name}: the project has {have} {WHAT[name]}{hint}; the limit is {limit}"
    finding = {"quota": name, "limit": limit, "used": have, "detail": detail, "param": None}
    return refuse("quota_exceeded" if retry else "quota_used_up", detail, errors=(finding,), retryable=retry)
