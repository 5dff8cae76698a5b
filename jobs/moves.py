"""The one function that changes a job's state: compare-and-set by the table of `jobs.states`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from jobs import usage
from jobs.clock import db_now
from jobs.events import append
from jobs.states import HELD, TERMINAL, State, sources
from jobs.tables import Job


def move(
    s: Session,
    job_id: str,
    to: State,
    *,
    fence: int | None = None,
    only: Collection[State] | None = None,
    raise_fence: bool = False,
    reason: str | None = None,
    **columns: Any,
) -> Job | None:
    """Move a job by compare-and-set, and write the event of it, in the caller's transaction.

    Args:
        fence: the mover's token; another fence on the row refuses the move.
        only: fewer source states than the table allows.
        raise_fence: the mover becomes the holder; every earlier holder is stale from now on.
        reason: stands in the event, and so in `status_transitions[]`.
        columns: further columns to set; they win over those that go with the state.

    Returns:
        The moved job, or None when its state or fence does not allow it.
    """
    legal = sources(to) if only is None else sources(to) & frozenset(only)
    with_state: dict[str, Any] = {}
    if to in TERMINAL:
        with_state = {"finished_at": db_now(), "lease_until": None}
    elif to in (State.QUEUED, State.PAUSED):
        with_state = {"lease_until": None, "worker": None, "hinted_at": None}
        if to is State.QUEUED:
            with_state["queued_at"] = db_now()
    if raise_fence:
        with_state["fence"] = Job.fence + 1
    statement = update(Job).where(Job.id == job_id, Job.state.in_(legal))
    if fence is not None:
        statement = statement.where(Job.fence == fence)
    moved = s.scalars(
        statement.values(state=to, **{**with_state, **columns}).returning(Job),
        execution_options={"populate_existing": True, "synchronize_session": False},
    ).one_or_none()
    if moved is not None:
        if to not in HELD:
            usage.settle(s, moved, lost=reason == "lost")
        append(s, moved, [("state", {"state": to.value, "attempt": moved.attempt, "reason": reason})])
    return moved
