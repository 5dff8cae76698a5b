"""What webhooks tell of. A type never changes its meaning."""

from __future__ import annotations

from typing import Literal, get_args

from jobs.states import State

JobKind = Literal["job.running", "job.paused", "job.succeeded", "job.failed", "job.cancelled"]
Kind = Literal[JobKind, "push.succeeded", "push.failed"]
PING = "ping"  # sent by POST .../test only; nobody subscribes to it

# The states of a job that are told of. `queued` is what the caller has just asked for; `cancelling` and `pausing` pass.
OF_STATE: dict[str, JobKind] = {kind.removeprefix("job."): kind for kind in get_args(JobKind)}
assert set(OF_STATE) <= set(State)  # noqa: S101
