"""What is told of a job while it goes on: its events and its curves."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from api.schemas import Answer


class JobEvent(Answer):
    """What happened to a job. `seq` counts 1, 2, 3 ... without a gap and is the id of the event stream."""

    id: str
    object: Literal["event"] = "event"
    job_id: str
    seq: int
    type: str
    at: datetime
    data: dict[str, Any]


class Gap(Answer):
    """Events that are told no more: progress, metrics and log lines of a job that ended long ago."""

    first: int
    last: int


class EventList(Answer):
    """Oldest first. Give `last_id` as `after` to go on; both are sequence numbers."""

    object: Literal["list"] = "list"
    data: list[JobEvent]
    has_more: bool
    first_id: int | None
    last_id: int | None
    gaps: list[Gap] = Field(description="Sequence numbers up to `last_id` that are told no more.")


class JobCurvePoint(Answer):
    seq: int = Field(description="Of the event that told it.")
    step: int
    value: float | None = Field(description="Null where it was not finite.")
    at: datetime


class JobCurve(Answer):
    """One quantity over the steps of training, in the order in which it was told; a later attempt may go back."""

    name: str
    points: list[JobCurvePoint]


class JobCurveList(Answer):
    """The curves of a job, by name."""

    object: Literal["list"] = "list"
    data: list[JobCurve]
    has_more: bool = False
