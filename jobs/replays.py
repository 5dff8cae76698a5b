"""Answers of POSTs by idempotency key, so that the same request twice acts once: kept two days, per project and path.

Jobs need none of this: their key stands in the job's own row, written by the transaction that makes the job.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from jobs.clock import db_now
from jobs.db import insert_once
from jobs.ids import new_id
from jobs.problem import refuse
from jobs.scope import Scope, scoped
from jobs.tables import Replay

IN_FLIGHT_S = 60.0  # then whoever began is taken for dead, and the next request with the key acts
KEPT_S = 48 * 3600.0


@dataclass(frozen=True)
class Answer:
    """What was answered. `body` is None where it held a secret, which is stored nowhere."""

    status: int
    headers: dict[str, str]
    body: str | None


def begin(s: Session, scope: Scope, path: str, key: str, fingerprint: str, new: str | None = None) -> Answer | str:
    """The answer that the same request had, or the id under which this one is noted as in flight.

    Args:
        new: that id. Again with the same one after a commit of which nobody knows what came of it.

    Raises:
        Refused: idempotency_key_reused (another request), idempotency_in_flight.
    """
    new = new or new_id("rep")
    row = {"project_id": scope.project_id, "path": path, "key": key}
    values = {"fingerprint": fingerprint, "lease_until": db_now() + IN_FLIGHT_S, "created_at": db_now()}
    if insert_once(s, Replay, id=new, **row, **values):
        return new
    found = s.scalars(
        scoped(Replay, scope).filter_by(path=path, key=key).with_for_update().execution_options(populate_existing=True)
    ).one_or_none()
    if found is not None and found.id == new:
        return new
    if found is None:
        raise refuse("idempotency_in_flight", "the first request with this Idempotency-Key just ended", retryable=True)
    if found.fingerprint != fingerprint:
        raise refuse("idempotency_key_reused", "this Idempotency-Key was used with another body; use a new key")
    if found.status is not None:
        return Answer(found.status, found.headers or {}, found.body)
    # By a compare-and-set, for the clock is the database's.
    taken = s.scalars(
        update(Replay)
        .where(Replay.id == found.id, Replay.lease_until < db_now())
        .values(id=new, lease_until=db_now() + IN_FLIGHT_S)
        .returning(Replay.id),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    if taken is None:
        detail = "the first request with this Idempotency-Key is still at work; ask again"
        raise refuse("idempotency_in_flight", detail, retryable=True)
    return new


def renew(s: Session, replay_id: str) -> None:
    """Say that a request is still at work."""
    s.execute(update(Replay).where(Replay.id == replay_id).values(lease_until=db_now() + IN_FLIGHT_S))


def end(s: Session, replay_id: str, answer: Answer | None) -> None:
    """Keep the answer; with None forget the request, which changed nothing and may be sent again corrected."""
    if answer is None:
        s.execute(delete(Replay).where(Replay.id == replay_id))
        return
    kept = {"status": answer.status, "headers": answer.headers, "body": answer.body}
    s.execute(update(Replay).where(Replay.id == replay_id).values(**kept))


def forget(s: Session) -> None:
    """Drop the answers of more than two days ago."""
    s.execute(delete(Replay).where(Replay.created_at < db_now() - KEPT_S))
