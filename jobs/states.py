"""The states of a job and the legal moves between them, as one table. `jobs.moves.move` is what moves."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


Q, R, PG, P, C = State.QUEUED, State.RUNNING, State.PAUSING, State.PAUSED, State.CANCELLING
MOVES: dict[State, frozenset[State]] = {
    Q: frozenset({R, P, State.SUCCEEDED, State.CANCELLED, State.FAILED}),  # succeeded: a result that was there
    R: frozenset({State.SUCCEEDED, State.FAILED, C, PG, Q}),
    PG: frozenset({P, State.SUCCEEDED, State.FAILED, C, Q}),
    P: frozenset({Q, State.CANCELLED}),
    C: frozenset({State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}
TERMINAL = frozenset(state for state, onward in MOVES.items() if not onward)
HELD = frozenset({R, PG, C})  # a worker holds the job: it has a lease


def sources(to: State) -> frozenset[State]:
    """The states from which `to` may be reached."""
    return frozenset(state for state, onward in MOVES.items() if to in onward)
