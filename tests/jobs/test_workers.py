"""Living workers and their devices: a job that nobody serves says so from the start."""

from __future__ import annotations

import pytest

from jobs import service
from jobs.clock import db_now
from jobs.tables import Worker
from jobs.workers import FORGET_S
from tests.jobs.world import World


def warnings(world: World, device: str) -> list[str]:
    job = world.submit(world.request(resources={"device": device}))
    return [event.data["detail"] for event in world.events(job.id) if event.type == "warning"]


def alive(world: World, name: str, *devices: str) -> None:
    with world.db.sessions.begin() as s:
        service.seen(s, name, devices)


def ago(world: World, seconds: float) -> None:
    with world.db.sessions.begin() as s:
        for row in s.query(Worker):
            row.seen_at = db_now() - seconds  # type: ignore[assignment]


def test_a_device_that_no_living_worker_serves_is_a_warning(world: World) -> None:
    alive(world, "a", "cpu")
    alive(world, "a", "cpu")  # said again: still one row
    (detail,) = warnings(world, "cuda")
    assert "'cuda'" in detail
    assert "served: cpu" in detail
    assert warnings(world, "cpu") == warnings(world, "auto") == []
    alive(world, "b", "cpu", "cuda")
    assert warnings(world, "cuda") == []


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_service_whose_workers_have_not_spoken_yet_warns_of_nothing(world: World, device: str) -> None:
    assert warnings(world, device) == []
    alive(world, "a", "cpu")
    ago(world, 600)
    assert warnings(world, device) == []


def test_workers_of_yesterday_are_forgotten(world: World) -> None:
    alive(world, "old", "cuda")
    ago(world, FORGET_S + 1)
    alive(world, "new", "cpu")
    with world.db.readers() as s:
        assert [row.id for row in s.query(Worker)] == ["new"]
