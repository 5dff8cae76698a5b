"""Which workers live, and which devices they serve. Only advice for users hangs on it: claims never read it."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobs.clock import db_now
from jobs.db import insert_once
from jobs.tables import Worker

FORGET_S = 3_600.0
UNSEEN_S = 60.0  # a worker says three times as often that it lives


def seen(s: Session, name: str, devices: Collection[str], engine: str | None = None) -> None:
    """Note that a worker lives, what it serves and by which engine; forget those that were last seen an hour ago."""
    if not insert_once(s, Worker, id=name, devices=sorted(devices), engine=engine, seen_at=db_now()):
        row = s.get_one(Worker, name)
        row.devices, row.engine, row.seen_at = sorted(devices), engine, db_now()
    s.execute(delete(Worker).where(Worker.seen_at < db_now() - FORGET_S))


def engines(s: Session, device: str) -> set[str]:
    """What living workers would do a job for `device` by."""
    living = s.execute(select(Worker.devices, Worker.engine).where(Worker.seen_at > db_now() - UNSEEN_S)).all()
    return {engine for devices, engine in living if engine is not None and device in ("auto", *devices)}


def unserved(s: Session, device: str, within_s: float = UNSEEN_S) -> str | None:
    """Why a job for `device` would wait, in words; None where a worker that was seen `within_s` ago serves it."""
    if device == "auto":
        return None
    living = s.scalars(select(Worker.devices).where(Worker.seen_at > db_now() - within_s)).all()
    served = sorted({each for devices in living for each in devices})
    if device in served or not living:  # nobody yet: a service that starts
        return None
    return (
        f"no worker serves the device {device!r} now (served: {', '.join(served)}); the job waits for one, "
        "for limits.max_pending_s where that is given"
    )
