"""The table of moves, and the one function that moves."""

from __future__ import annotations

import itertools

import pytest

from jobs.moves import move
from jobs.states import MOVES, TERMINAL, State, sources
from tests.jobs.world import World

# Written out a second time, from the design, so that a slip in the table is seen.
LEGAL = {
    ("queued", "running"), ("queued", "paused"), ("queued", "cancelled"), ("queued", "failed"),
    ("queued", "succeeded"),  # a result that was there already
    ("running", "succeeded"), ("running", "failed"), ("running", "cancelling"), ("running", "pausing"),
    ("running", "queued"),
    ("pausing", "paused"), ("pausing", "succeeded"), ("pausing", "failed"), ("pausing", "cancelling"),
    ("pausing", "queued"),
    ("paused", "queued"), ("paused", "cancelled"),
    ("cancelling", "cancelled"),
}  # fmt: skip


def test_every_pair_of_states_moves_as_designed(world: World) -> None:
    """64 pairs: the legal ones move and leave one event, the others change nothing at all."""
    job_id = world.ready().id
    for before, after in itertools.product(State, State):
        world.set(job_id, state=before, fence=1)
        events = len(world.events(job_id))
        with world.db.sessions.begin() as s:
            moved = move(s, job_id, after, fence=1)
        legal = (before.value, after.value) in LEGAL
        assert (moved is not None) == legal, f"{before} -> {after}"
        assert world.job(job_id).state is (after if legal else before)
        assert len(world.events(job_id)) == events + legal


def test_what_has_ended_stays_ended() -> None:
    assert {"succeeded", "failed", "cancelled"} == TERMINAL
    assert not any(MOVES[state] for state in TERMINAL)


@pytest.mark.parametrize("state", [state for state in State if state not in TERMINAL])
def test_every_state_that_is_no_end_has_a_way_to_one(state: State) -> None:
    """Nothing can be stuck: cancelled is reached from each of them."""
    reached = {state}
    while any(new := MOVES[at] - reached for at in list(reached)):
        reached |= new
    assert State.CANCELLED in reached


def test_another_fence_moves_nothing(world: World) -> None:
    job_id = world.ready().id
    with world.db.sessions.begin() as s:
        assert move(s, job_id, State.RUNNING, fence=7) is None
        assert move(s, job_id, State.RUNNING, fence=0) is not None


def test_sources_are_the_table_read_backwards() -> None:
    assert {(before.value, to.value) for to in State for before in sources(to)} == LEGAL
