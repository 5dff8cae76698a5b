"""What the operator hears of a job: a line in the log for each change, and the tallies.

A line is written after the commit of the change and never without it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import event, select
from sqlalchemy.orm import Session, SessionTransaction

from core.progress import STAGES
from jobs.clock import db_now, now
from jobs.problem import CODES
from jobs.states import State
from jobs.tables import Event, Job
from jobs.tallies import count

logger = logging.getLogger("ladapress.jobs")
WAITING = "lines"
STILL_HELD = (State.CANCELLING, State.PAUSING)  # the worker goes on for a moment
LOST = ("lost", "worker_lost")
OUTCOMES = {State.QUEUED: "drained"}  # else the state's own name


def account(s: Session, job: Job, events: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Tell of changes that the caller is about to write as events of `job`, in the same transaction."""
    told = [(kind, data) for kind, data in events if kind in ("state", "stage")]
    if not told:
        return
    stage = None if job.fence == 0 else _running(s, job.id)
    for kind, data in told:
        _say(s, job, kind, data)
        if kind == "state" and data["state"] in STILL_HELD:
            continue
        if stage is not None:
            count(s, "stage_seconds", stage[0] if stage[0] in STAGES else "other", max(0.0, stage[1]))
        if kind == "stage":
            stage = (str(data.get("stage")), 0.0)
        elif data["state"] == State.RUNNING:
            stage = ("fetch", 0.0)
            count(s, "claim_wait_seconds", job.device, max(0.0, (job.claimed_at or 0.0) - job.queued_at))
        else:
            if stage is not None:
                _ended(s, job, State(data["state"]), data.get("reason"))
            if data["state"] == State.FAILED:
                count(s, "job_failures", data["reason"] if data.get("reason") in CODES else "internal")
            stage = None


def _running(s: Session, job_id: str) -> tuple[str, float] | None:
    """The stage that a held job is in, and for how many seconds; None where nobody holds it."""
    changes = select(Event.type, Event.data, db_now() - Event.at).where(
        Event.job_id == job_id, Event.type.in_(("state", "stage"))
    )
    for kind, data, seconds in s.execute(changes.order_by(Event.seq.desc()).limit(1 + len(STILL_HELD))):
        if kind == "stage":
            return str(data.get("stage")), seconds
        if data["state"] not in STILL_HELD:
            return ("fetch", seconds) if data["state"] == State.RUNNING else None
    return None


def _ended(s: Session, job: Job, to: State, reason: str | None) -> None:
    lost = reason in LOST
    count(s, "attempts", "lost" if lost else OUTCOMES.get(to, to.value))
    if job.hardware == "cuda" and job.claimed_at is not None:
        until = job.heartbeat_at if lost else now(s)
        count(s, "gpu_seconds", by=max(0.0, (until or job.claimed_at) - job.claimed_at))


def _say(s: Session, job: Job, kind: str, data: dict[str, Any]) -> None:
    line = {
        "job_id": job.id,
        "project": job.project_id,
        "request_id": job.request_id,
        "attempt": job.attempt,
        "fence": job.fence,
        "worker": job.worker,
        "state": data["state"] if kind == "state" else job.state.value,
        "stage": data.get("stage") if kind == "stage" else job.stage,
    }
    if data.get("reason") is not None:
        line["reason"] = data["reason"]
    s.info.setdefault(WAITING, []).append((f"job {kind}", line))


def _write(s: Session) -> None:
    for message, line in s.info.pop(WAITING, ()):
        logger.info(message, extra=line)


def _forget(s: Session, _transaction: SessionTransaction) -> None:
    s.info.pop(WAITING, None)


event.listen(Session, "after_commit", _write)
event.listen(Session, "after_soft_rollback", _forget)
