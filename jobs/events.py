"""The events of a job: numbered inside the transaction that inserts them, so that a reader sees no gap.

The numbering takes the job's row lock; a later number therefore commits after an earlier one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from jobs.account import account
from jobs.clock import db_now
from jobs.ids import new_id
from jobs.scope import Scope, can_be_stored, get, scoped
from jobs.states import HELD
from jobs.tables import Event, Job
from jobs.webhooks.outbox import tell_job

MAX_STRING = 4_096  # characters of one value; a child's log line is not trusted to be short
MAX_ITEMS = 100
ETA_FROM = 0.03  # below this fraction an estimate would be a guess


class Told(NamedTuple):
    """An event as it is read: plain values, for readers are many. `at`: seconds since 1970."""

    id: str
    job_id: str
    seq: int
    type: str
    at: float
    data: dict[str, Any]


COLUMNS = tuple(getattr(Event, name) for name in Told._fields)
# Built once: the page that everybody polls costs more to put together than to run.
_NEWER = (
    select(*COLUMNS)
    .where(Event.job_id == bindparam("job"), Event.seq > bindparam("after"), Event.project_id == bindparam("project"))
    .order_by(Event.seq)
    .limit(bindparam("most"))
)


def record(s: Session, job_id: str, fence: int, events: Sequence[tuple[str, dict[str, Any]]]) -> bool:
    """Store what a running child says: events, and with them the job's stage and progress.

    `("stage", {"stage"})` sets the stage; `("progress", {"fraction", "step", "steps"})` moves the progress, whose
    fraction never falls, not even when a second attempt starts over.

    Returns:
        False when the fence is lost; nothing is written then.
    """
    job = s.scalars(
        update(Job)
        .where(Job.id == job_id, Job.fence == fence, Job.state.in_(HELD))
        .values(heartbeat_at=db_now())
        .returning(Job),
        execution_options={"populate_existing": True, "synchronize_session": False},
    ).one_or_none()
    if job is None:
        return False
    for kind, data in events:
        if kind == "stage":
            job.stage = plain(str(data.get("stage")))
        elif kind == "progress":
            job.progress = _progress(job, data)
    s.flush()
    append(s, job, [(kind, plain(data)) for kind, data in events])
    return True


def append(s: Session, job: Job, events: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Number and insert events of a job, in the caller's transaction."""
    if not events:
        return
    account(s, job, events)
    last = s.scalars(
        update(Job).where(Job.id == job.id).values(event_seq=Job.event_seq + len(events)).returning(Job.event_seq),
        execution_options={"synchronize_session": False},
    ).one()
    first = last - len(events) + 1
    rows = [
        {
            "id": new_id("evt"),
            "project_id": job.project_id,
            "job_id": job.id,
            "seq": first + index,
            "type": kind,
            "data": data,
        }
        for index, (kind, data) in enumerate(events)
    ]
    s.execute(insert(Event), rows)
    tell_job(s, job, rows)
    s.refresh(job, ["event_seq"])


def events_after(s: Session, scope: Scope, job_id: str, after: int = 0, limit: int = 100) -> list[Told]:
    """Up to `limit` events with a number above `after`, in order.

    Raises:
        Refused: not_found.
    """
    asked = {"job": job_id, "after": after, "project": scope.project_id, "most": limit}
    if can_be_stored(job_id):
        if rows := [Told(*row) for row in s.connection().execute(_NEWER, asked)]:
            return rows
        if s.scalars(scoped(Job, scope).where(Job.id == job_id).with_only_columns(Job.id)).first() is not None:
            return []
    get(s, scope, Job, job_id)  # says that there is none
    return []


def news(s: Session, known: Mapping[str, int | None], limit: int) -> dict[str, tuple[int, Sequence[Told]]]:
    """Job id -> (its last number, up to `limit` events above the one that is known, in order) of those that exist.

    Of every project: whoever passes these on has asked whether the reader may see the job. Where no number is known
    yet no event is read.
    """
    heads = s.execute(select(Job.id, Job.event_seq).where(Job.id.in_(known))).all()
    found: dict[str, tuple[int, Sequence[Told]]] = {}
    for job_id, head in heads:
        after = known[job_id]
        rows: Sequence[Told] = ()
        if after is not None and head > after:
            newer = select(*COLUMNS).where(Event.job_id == job_id, Event.seq > after).order_by(Event.seq)
            rows = [Told(*row) for row in s.execute(newer.limit(limit))]
        found[job_id] = (head, rows)
    return found


def metrics(s: Session, scope: Scope, job_id: str) -> list[Event]:
    """The "metric" events of a job, in order. Raises Refused (not_found)."""
    get(s, scope, Job, job_id)
    rows = scoped(Event, scope).where(Event.job_id == job_id, Event.type == "metric")
    return list(s.scalars(rows.order_by(Event.seq)))


def transitions(s: Session, scope: Scope, job_ids: Sequence[str]) -> dict[str, list[Event]]:
    """The "state" events of each job, in order: what `status_transitions[]` and `stage_seconds` are made from."""
    found: dict[str, list[Event]] = {job_id: [] for job_id in job_ids}
    rows = select(Event).where(
        Event.project_id == scope.project_id, Event.job_id.in_(job_ids), Event.type.in_(("state", "stage"))
    )
    for event in s.scalars(rows.order_by(Event.job_id, Event.seq)):
        found[event.job_id].append(event)
    return found


def plain(value: Any, *, max_string: int | None = MAX_STRING, max_items: int | None = MAX_ITEMS) -> Any:
    """`value` as JSON that both databases store: no NaN, no NUL, no lone surrogate, nothing longer than allowed."""
    limits: dict[str, Any] = {"max_string": max_string, "max_items": max_items}
    match value:
        case str():
            kept = value[:max_string].replace("\x00", "\N{REPLACEMENT CHARACTER}")
            return kept.encode("utf-8", "replace").decode()
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {plain(str(key), **limits): plain(item, **limits) for key, item in [*value.items()][:max_items]}
        case list() | tuple():
            return [plain(item, **limits) for item in value[:max_items]]
        case None | bool() | int():
            return value
        case _:
            return plain(str(value), **limits)


def stored(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report, whole, as JSON that both databases store."""
    return {plain(key): plain(value, max_string=None, max_items=None) for key, value in report.items()}


def _progress(job: Job, data: dict[str, Any]) -> dict[str, Any]:
    raw = data.get("fraction")
    fraction = min(1.0, max(0.0, float(raw))) if isinstance(raw, int | float) and math.isfinite(raw) else 0.0
    elapsed = (job.heartbeat_at or 0.0) - (job.claimed_at or job.heartbeat_at or 0.0)
    before = (job.progress or {}).get("fraction", 0.0)
    return {
        "fraction": max(before, fraction),
        "step": plain(data.get("step")),
        "steps": plain(data.get("steps")),
        "eta_s": elapsed * (1 - fraction) / fraction if fraction >= ETA_FROM else None,
    }
