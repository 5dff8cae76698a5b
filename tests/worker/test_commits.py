"""Commits whose answer is lost, and slots side by side, under the real supervisor in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from jobs.db import Database
from jobs.states import State
from jobs.tables import Artifact
from tests.worker.conftest import MakeScene
from tests.worker.scene import Scene, rescuer, until


class Faulty:
    """Sessions that fail a publish before its commit, or after: the caller sees the same error."""

    def __init__(self, real: Any, faults: list[str], artifacts: int) -> None:
        self._real, self.faults = real, faults
        self._artifacts = artifacts
        self.away = False

    @contextmanager
    def begin(self) -> Iterator[Session]:
        if self.away:
            raise OperationalError("connect", None, ConnectionError("nobody is there"))
        with self._real.begin() as s:
            yield s
            # A transaction that writes artifacts is the publishing one.
            publishes = s.scalars(select(func.count()).select_from(Artifact)).one() > self._artifacts
            if publishes:
                self._strike("before")
        if publishes:
            self._artifacts += 1
            self._strike("after")

    def _strike(self, when: str) -> None:
        if self.faults[:1] == [when]:
            self.faults.pop(0)
            raise OperationalError("COMMIT", None, ConnectionError("the answer was lost"))


def published_once(scene: Scene, faults: list[str]) -> None:
    with rescuer(scene) as node:
        sessions = Faulty(node.db.sessions, faults, scene.count(Artifact))
        node.db = Database(node.db.engine, cast("Any", sessions), node.db.readers)
        job = scene.wait(scene.submit(judged=True))
    assert sessions.faults == []
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
    assert len(scene.artifacts(job.id)) == 1
    assert [data["state"] for kind, data in scene.told(job.id) if kind == "state"] == ["queued", "running", "succeeded"]


def test_a_publish_is_repeated_until_its_answer_comes(make_scene: MakeScene) -> None:
    """A publish that failed before or after its commit, or both in turn, is one publication all the same."""
    scene = make_scene("embedded", lease_s=10)
    published_once(scene, ["before"])
    published_once(scene, ["after"])
    published_once(scene, ["before", "before", "after"])


def test_an_idle_worker_outlives_an_outage(make_scene: MakeScene, caplog: pytest.LogCaptureFixture) -> None:
    """While the database is away it is asked again, a line of log each time; afterwards jobs run as before."""
    scene = make_scene("embedded", lease_s=10)
    with rescuer(scene) as node:
        sessions = Faulty(node.db.sessions, [], 0)
        sessions.away = True
        node.db = Database(node.db.engine, cast("Any", sessions), node.db.readers)
        job_id = scene.submit(judged=True)
        until(lambda: "no job could be claimed" in caplog.text and "reconciler skips" in caplog.text, 30)
        assert "Traceback" not in caplog.text
        assert scene.job(job_id).state is State.QUEUED
        sessions.away = False
        assert scene.wait(job_id).state is State.SUCCEEDED


def test_slots_work_side_by_side(make_scene: MakeScene) -> None:
    """Two device slots run two jobs at the same time, and a third waits."""
    scene = make_scene("embedded", device_slots=2, lease_s=10)
    with rescuer(scene):
        jobs = [scene.submit(judged=True, steps=1000, step_s=0.1) for _ in range(3)]
        until(lambda: [scene.job(job).stage for job in jobs] == ["distill", "distill", None], 30)
        scene.cancel(jobs[0])
        until(lambda: scene.job(jobs[2]).stage == "distill", 30)
    assert [scene.job(job).state for job in jobs] == [State.CANCELLED, State.QUEUED, State.QUEUED]
