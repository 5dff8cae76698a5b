"""Counts and sums since the beginning, kept in the database: what Prometheus reads of jobs.

A tally is written by the transaction that makes it true. So nothing is lost with a process that dies, nothing is
counted of a transaction that was rolled back, and nothing shrinks when a job is deleted (docs/decisions/0018). Rows
are written last in a transaction and in one order, so that two of them never wait for each other in a circle.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import event, select
from sqlalchemy.orm import Session, SessionTransaction

from jobs.db import insert
from jobs.tables import Tally

WAITING = "tallies"
SHORT = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
LONG = (0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200)


@dataclass(frozen=True)
class Kind:
    """A family of tallies. `label` is None where it is one figure; histograms have upper bounds, in seconds."""

    name: str
    help: str
    label: str | None = None
    bounds: tuple[float, ...] = ()


KINDS = {
    kind.name: kind
    for kind in (
        Kind("stage_seconds", "Time that attempts spent in each stage.", "stage", LONG),
        Kind("claim_wait_seconds", "Time from queued to claimed, by the device that was asked for.", "device", LONG),
        Kind("checkpoint_seconds", "Time to store a checkpoint.", None, SHORT),
        Kind("attempts", "Attempts that ended, by how.", "outcome"),
        Kind("job_failures", "Jobs that failed, by the code of their problem.", "code"),
        Kind("cpu_seconds", "Processor time of the processes that ran jobs."),
        Kind("gpu_seconds", "Time for which attempts held a GPU."),
    )
}
Name = Literal[
    "stage_seconds", "claim_wait_seconds", "checkpoint_seconds",
    "attempts", "job_failures", "cpu_seconds", "gpu_seconds",
]  # fmt: skip


@dataclass
class Total:
    """What a family has come to for one value of its label. `buckets` are not cumulative; the last has no bound."""

    value: float = 0.0
    buckets: list[float] = field(default_factory=list)


def count(s: Session, name: Name, label: str = "", by: float = 1.0) -> None:
    """Add to a count, or a time to the sum and the buckets of a histogram, when this transaction commits."""
    waiting: dict[str, float] = s.info.setdefault(WAITING, {})
    keys = {f"{name}|{label}": by}
    if (bounds := KINDS[name].bounds) != ():
        keys[f"{name}|{label}|{bisect_left(bounds, by)}"] = 1.0
    for key, value in keys.items():
        waiting[key] = waiting.get(key, 0.0) + value


def totals(s: Session) -> dict[str, dict[str, Total]]:
    """Every family by name: label -> total. A family without label has the label ""."""
    found: dict[str, dict[str, Total]] = {name: {} for name in KINDS}
    for kind, label, bucket, value in _rows(s):
        total = found[kind.name].setdefault(label, Total(buckets=[0.0] * (len(kind.bounds) + 1 if kind.bounds else 0)))
        if bucket is None:
            total.value = value
        elif bucket < len(total.buckets):
            total.buckets[bucket] = value
    for kind in KINDS.values():
        if kind.label is None:
            found[kind.name].setdefault("", Total(buckets=[0.0] * (len(kind.bounds) + 1 if kind.bounds else 0)))
    return found


def _rows(s: Session) -> Iterator[tuple[Kind, str, int | None, float]]:
    for id_, value in s.execute(select(Tally.id, Tally.value)):
        name, label, *bucket = id_.split("|")
        if name in KINDS:  # another version's
            yield KINDS[name], label, int(bucket[0]) if bucket else None, value


def _write(s: Session) -> None:
    waiting: dict[str, float] = s.info.pop(WAITING, {})
    if not waiting:
        return
    statement = insert(s, Tally)
    added = {"value": Tally.value + statement.excluded.value}
    rows = [{"id": id_, "value": value} for id_, value in sorted(waiting.items())]
    s.execute(statement.values(rows).on_conflict_do_update(index_elements=[Tally.id], set_=added))


def _forget(s: Session, _transaction: SessionTransaction) -> None:
    s.info.pop(WAITING, None)


event.listen(Session, "before_commit", _write)
event.listen(Session, "after_soft_rollback", _forget)
