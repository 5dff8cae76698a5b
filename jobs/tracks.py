"""Tracks: a job's events on their way to an MLflow server while it runs. The row says how far they have come.

Whoever sends them reads the event table, so neither the job nor its worker waits for anybody, and what a server that
was away has missed is sent when it is back. Sending twice adds nothing there: equal points are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from jobs.clock import db_now, now
from jobs.problem import Problem
from jobs.requests import TrackRequest
from jobs.states import TERMINAL, State
from jobs.tables import Event, Job, Track

PAUSE_S = 5.0  # between two batches of a job
LONGEST_WAIT_S = 900.0
BATCH = 500  # events
QUIET = {"populate_existing": True, "synchronize_session": False}


@dataclass(frozen=True)
class Due:
    """A held track: what is to be sent next. `last`: nothing follows these events; `state` is the job's end then."""

    job_id: str
    project_id: str
    fence: int
    track: dict[str, Any]
    run_id: str | None
    name: str | None
    spec: dict[str, Any]
    started_at: float
    events: Sequence[tuple[int, float, str, dict[str, Any]]]  # number, seconds since 1970, type, data
    last: bool
    state: State
    finished_at: float | None
    report: dict[str, Any] | None
    error: dict[str, Any] | None


def add_track(s: Session, job: Job, asked: TrackRequest) -> None:
    """Have a job tracked, from its first event on."""
    s.add(Track(job_id=job.id, project_id=job.project_id, spec=asked.model_dump(mode="json")))


def claim_track(s: Session, lease_s: float) -> Due | None:
    """Take the track that is due longest and whose job has news. None: there is none."""
    free = or_(Track.lease_until.is_(None), Track.lease_until < db_now())
    news = (
        select(Track.job_id)
        .join(Job, Job.id == Track.job_id)
        .where(Track.finished_at.is_(None), Track.not_before <= db_now(), free)
        .where(or_(and_(Job.event_seq > Track.sent_seq, Job.fence > 0), Job.state.in_(TERMINAL)))
    )
    first = news.order_by(Track.not_before, Track.job_id).limit(1).with_for_update(of=Track, skip_locked=True)
    job_id = s.scalars(first).one_or_none()
    if job_id is None:
        return None
    held = {"fence": Track.fence + 1, "lease_until": db_now() + lease_s}
    row = s.scalars(
        update(Track).where(Track.job_id == job_id).values(**held).returning(Track), execution_options=QUIET
    ).one()
    job = s.get_one(Job, job_id)
    wanted = select(Event).where(Event.job_id == job_id, Event.seq > row.sent_seq).order_by(Event.seq).limit(BATCH)
    events = [(event.seq, event.at, event.type, event.data) for event in s.scalars(wanted)]
    last = job.state in TERMINAL and (events[-1][0] if events else row.sent_seq) >= job.event_seq
    return Due(
        job_id, row.project_id, row.fence, row.spec, row.run_id, job.name, job.spec, job.started_at or job.created_at,
        events, last, job.state, job.finished_at, job.report, job.error,
    )  # fmt: skip


def kept_track(s: Session, due: Due, run_id: str) -> bool:
    """The events of `due` are there. False: somebody else sends them now, or the job was deleted."""
    pause_s = 0.0 if len(due.events) == BATCH else PAUSE_S
    done = {"run_id": run_id, "failures": 0, "error": None, "lease_until": None, "not_before": db_now() + pause_s}
    if due.events:
        done["sent_seq"] = due.events[-1][0]
    if due.last:
        done["finished_at"] = db_now()
    return _held(s, due, **done)


def fail_track(s: Session, due: Due, problem: Problem, *, retry_s: float, give_up_s: float) -> bool:
    """Sending went wrong: again later, ever more slowly; not again when the job ended `give_up_s` ago, or when the
    server will not have it. False: as `kept_track`."""
    row = s.get(Track, due.job_id, populate_existing=True)
    failures = row.failures if row is not None else 0
    time = now(s)
    over = not problem.retryable or (due.finished_at is not None and time - due.finished_at >= give_up_s)
    wait_s = min(retry_s * 2 ** min(failures, 30), LONGEST_WAIT_S)
    after = {"failures": failures + 1, "error": problem.as_dict(), "lease_until": None, "not_before": db_now() + wait_s}
    return _held(s, due, **after, **({"finished_at": db_now()} if over else {}))


def _held(s: Session, due: Due, **columns: Any) -> bool:
    held = (Track.job_id == due.job_id, Track.fence == due.fence, Track.finished_at.is_(None))
    statement = update(Track).where(*held).values(**columns).returning(Track.job_id)
    return s.scalars(statement, execution_options=QUIET).one_or_none() is not None
