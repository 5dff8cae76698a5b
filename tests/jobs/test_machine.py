"""A state machine against the job table: any order of submits, claims, beats, crashes and publishes keeps the promises.

Hypothesis picks the order; the machine keeps a small model of each job and compares. Holders are never forgotten:
a stale one may wake up at any later step and try everything it could before. Commits may fail on either side of
their point of no return.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from jobs import service
from jobs.problem import Problem, Refused
from jobs.requests import JobRequest
from jobs.states import HELD, MOVES, TERMINAL, State
from jobs.tables import Artifact, Event, Job
from tests.jobs.world import BAD, GOOD, POINT, World, wipe

JOBS = 3  # at once; few, so that claims and stale holders meet on the same one
FAULTS = ("none", "before commit", "after commit")


class Cut(Exception):
    """The process dies."""


def cut() -> AbstractContextManager[None]:
    """Around a transaction that the process may not outlive."""
    return suppress(Cut)


def die_if(dying: bool) -> None:
    if dying:
        raise Cut


@dataclass
class Row:
    """What the machine believes of one job."""

    claimable: bool
    state: State = State.QUEUED
    fence: int = 0
    attempt: int = 0
    artifacts: int = 0
    published_by: set[int] = field(default_factory=set)


class Machine(RuleBasedStateMachine):
    """Jobs under claimers, users, crashes and a clock that jumps."""

    world: World
    judged: JobRequest

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, Row] = {}
        self.claims: list[service.Claim] = []
        self.waiting: list[str] = []
        self.verdicts: dict[str, bool | None] = {}

    @initialize()
    def start(self) -> None:
        wipe(self.world.db)
        self.judged = self.world.judged()

    def teardown(self) -> None:
        wipe(self.world.db)

    def holds(self, claim: service.Claim) -> bool:
        row = self.rows.get(claim.job_id)
        return row is not None and row.fence == claim.fence and row.state in HELD

    def any_job(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.rows)))

    def any_claim(self, data: st.DataObject) -> service.Claim:
        """As often one that holds its job as one that has lost it."""
        holding = [claim for claim in self.claims if self.holds(claim)]
        stale = [claim for claim in self.claims if not self.holds(claim)]
        return data.draw(st.sampled_from(holding if holding and (not stale or data.draw(st.booleans())) else stale))

    @precondition(lambda self: len(self.rows) < JOBS)
    @rule(judged=st.booleans())
    def submit(self, judged: bool) -> None:
        job = self.world.submit(self.judged if judged else None)
        self.rows[job.id] = Row(claimable=judged)
        self.verdicts[job.id] = True if judged else None
        if not judged:
            self.waiting.append(job.id)

    @precondition(lambda self: self.waiting)
    @rule(good=st.booleans())
    def judge(self, good: bool) -> None:
        """Inspections are taken oldest first."""
        job_id = self.waiting.pop(0)
        self.world.judge(GOOD if good else BAD)
        self.verdicts[job_id] = good
        row = self.rows.get(job_id)
        if row is not None and row.state is State.QUEUED:
            row.claimable = good
            row.state = State.QUEUED if good else State.FAILED

    @rule(fault=st.sampled_from(FAULTS))
    def claim_next(self, fault: str) -> None:
        self.claim(fault)

    def claim(self, fault: str) -> None:
        eligible = {id_ for id_, row in self.rows.items() if row.state is State.QUEUED and row.claimable}
        with cut(), self.world.db.sessions.begin() as s:
            held = service.claim(s, "worker", 60)
            die_if(fault == "before commit")
        if fault == "before commit":
            return
        assert (held is not None) == bool(eligible)
        if held is None:
            return
        row = self.rows[held.job_id]
        assert held.job_id in eligible
        assert (held.fence, held.attempt) == (row.fence + 1, row.attempt + 1)
        row.state, row.fence, row.attempt = State.RUNNING, held.fence, held.attempt
        if fault != "after commit":  # else the worker died before it knew; nobody holds this claim
            self.claims.append(held)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        claim = self.any_claim(data)
        with self.world.db.sessions.begin() as s:
            control = service.heartbeat(s, claim.job_id, claim.fence, 60)
        assert (control is not None) == self.holds(claim)
        if control is not None:
            assert control.cancel == (self.rows[claim.job_id].state is State.CANCELLING)
            assert control.pause == (self.rows[claim.job_id].state is State.PAUSING)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), count=st.integers(0, 3))
    def record(self, data: st.DataObject, count: int) -> None:
        claim = self.any_claim(data)
        with self.world.db.sessions.begin() as s:
            written = service.record(s, claim.job_id, claim.fence, [("progress", {"fraction": 0.1 * count})] * count)
        assert written == self.holds(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), fault=st.sampled_from(FAULTS))
    def publish(self, data: st.DataObject, fault: str) -> None:
        claim = self.any_claim(data)
        wins = self.holds(claim) and self.rows[claim.job_id].state in (State.RUNNING, State.PAUSING)
        with cut(), self.world.db.sessions.begin() as s:
            assert service.publish(s, claim.job_id, claim.fence, {}, [POINT]) == wins
            die_if(fault == "before commit")
        if wins and fault != "before commit":
            row = self.rows[claim.job_id]
            row.state, row.artifacts = State.SUCCEEDED, 1
            row.published_by.add(claim.fence)
        with self.world.db.readers() as s:  # what a holder does whose commit had no answer
            sure = service.published(s, claim.job_id, claim.fence)
        assert sure == (claim.job_id in self.rows and claim.fence in self.rows[claim.job_id].published_by)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        claim = self.any_claim(data)
        may = self.holds(claim) and self.rows[claim.job_id].state is not State.CANCELLING
        with self.world.db.sessions.begin() as s:
            assert service.fail(s, claim.job_id, claim.fence, Problem.of("export_failed", "x")) == may
        if may:
            self.rows[claim.job_id].state = State.FAILED

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), drained=st.booleans())
    def release(self, data: st.DataObject, drained: bool) -> None:
        claim = self.any_claim(data)
        holds = self.holds(claim)
        with self.world.db.sessions.begin() as s:
            state = service.release(s, claim.job_id, claim.fence, "drained" if drained else "lost")
        assert (state is not None) == holds
        if holds:
            self.lost(claim.job_id, drained=drained)

    @precondition(lambda self: any(row.state in HELD for row in self.rows.values()))
    @rule(data=st.data(), ticks=st.integers(1, 2), claimed_again=st.booleans())
    def expire(self, data: st.DataObject, ticks: int, claimed_again: bool) -> None:
        """The clock jumps past a lease and a reconciler comes by; often the next claimer, too."""
        job_id = data.draw(st.sampled_from(sorted(id_ for id_, row in self.rows.items() if row.state in HELD)))
        self.world.expire(job_id)
        for _ in range(ticks):
            self.world.reconcile()
        self.lost(job_id)
        if claimed_again:
            self.claim("none")

    def lost(self, job_id: str, *, drained: bool = False) -> None:
        row = self.rows[job_id]
        if row.state is State.CANCELLING:
            row.state = State.CANCELLED
            return
        row.attempt -= drained
        if row.state is State.PAUSING:
            row.state = State.PAUSED
            return
        row.state = State.QUEUED if row.attempt < 3 else State.FAILED

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        job_id = self.any_job(data)
        row = self.rows[job_id]
        ended = row.state in TERMINAL or row.state is State.CANCELLING
        refused = pytest.raises(Refused, match="nothing to pause") if ended else nullcontext()
        with refused, self.world.db.sessions.begin() as s:
            service.pause(s, self.world.scope, job_id)
        row.state = {State.QUEUED: State.PAUSED, State.RUNNING: State.PAUSING}.get(row.state, row.state)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        job_id = self.any_job(data)
        row = self.rows[job_id]
        goes = row.state in (State.PAUSED, State.QUEUED, State.RUNNING)
        with nullcontext() if goes else pytest.raises(Refused), self.world.db.sessions.begin() as s:
            service.resume(s, self.world.scope, job_id)
        if row.state is State.PAUSED:
            verdict = self.verdicts.get(job_id, True)  # a verdict that came meanwhile is heard now
            row.state = State.FAILED if verdict is False else State.QUEUED
            row.claimable = verdict is True

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = self.any_job(data)
        row = self.rows[job_id]
        ended = row.state in (State.SUCCEEDED, State.FAILED)
        refused = pytest.raises(Refused, match="nothing to cancel") if ended else nullcontext()
        with refused, self.world.db.sessions.begin() as s:
            service.cancel(s, self.world.scope, job_id)
        held = {State.RUNNING: State.CANCELLING, State.PAUSING: State.CANCELLING}
        row.state = {State.QUEUED: State.CANCELLED, State.PAUSED: State.CANCELLED, **held}.get(row.state, row.state)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def finish_cancel(self, data: st.DataObject) -> None:
        claim = self.any_claim(data)
        may = self.holds(claim) and self.rows[claim.job_id].state is State.CANCELLING
        with self.world.db.sessions.begin() as s:
            assert service.finish_cancel(s, claim.job_id, claim.fence) == may
        if may:
            self.rows[claim.job_id].state = State.CANCELLED

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        job_id = self.any_job(data)
        ended = self.rows[job_id].state in TERMINAL
        refused = nullcontext() if ended else pytest.raises(Refused, match="wait for its end")
        with refused, self.world.db.sessions.begin() as s:
            service.delete_job(s, self.world.scope, job_id)
        if ended:
            del self.rows[job_id]

    @invariant()
    def every_row_is_as_believed(self) -> None:
        """State, fence, attempt and artifacts; attempts end at three."""
        with self.world.db.readers() as s:
            jobs = list(s.scalars(select(Job)))
            artifacts = dict(s.execute(select(Artifact.job_id, func.count()).group_by(Artifact.job_id)).all())
        assert {job.id for job in jobs} == set(self.rows)
        for job in jobs:
            row = self.rows[job.id]
            assert (job.state, job.fence, job.attempt) == (row.state, row.fence, row.attempt)
            assert job.attempt <= 3
            assert artifacts.get(job.id, 0) == row.artifacts == (job.state is State.SUCCEEDED)
            assert (job.lease_until is not None) == (job.state in HELD)
            assert (job.finished_at is not None) == (job.state in TERMINAL)

    @invariant()
    def every_history_is_legal(self) -> None:
        """Events count 1, 2, 3 ... and the states in them follow the table of moves; nothing follows an end."""
        with self.world.db.readers() as s:
            events: dict[str, list[Event]] = {}
            for event in s.scalars(select(Event).order_by(Event.job_id, Event.seq)):
                events.setdefault(event.job_id, []).append(event)
        for job_id in self.rows:
            assert [event.seq for event in events[job_id]] == list(range(1, len(events[job_id]) + 1))
            states = [State(event.data["state"]) for event in events[job_id] if event.type == "state"]
            assert states[0] is State.QUEUED
            assert states[-1] is self.rows[job_id].state
            assert all(after in MOVES[before] for before, after in pairwise(states))


def run(world: World, examples: int, steps: int, *, derandomize: bool = True) -> None:
    machine: Any = type("Bound", (Machine,), {"world": world})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,) if derandomize else (Phase.generate, Phase.shrink),
        ),
    )


def test_no_order_of_events_breaks_a_promise(world: World) -> None:
    """The same orders every time."""
    run(world, examples=16 if world.db.engine.dialect.name == "sqlite" else 5, steps=25)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_new_orders_of_events_break_no_promise_either(world: World) -> None:
    """Others each time; a failure prints its own, shortened."""
    run(world, examples=200, steps=50, derandomize=False)
