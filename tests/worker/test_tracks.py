"""Curves on their way to an MLflow server: all of them, once, while the job runs, and never at the job's cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from jobs import service
from jobs.clock import db_now
from jobs.db import connect
from jobs.problem import Problem, Refused
from jobs.registries import Registries
from jobs.requests import TrackRequest
from jobs.settings import Settings
from jobs.states import State
from jobs.tables import Track
from tests.api.results import publish
from tests.jobs.world import World
from tests.worker.mlflow_stand_in import Run, StandIn, standing_in
from worker.tracks import Tracker

TOKEN = "a-token-of-the-operators"


@dataclass
class TrackScene:
    """A world, a server, and a tracker without a thread."""

    world: World
    server: StandIn

    def job(self, **track: Any) -> service.Claim:
        """A held job that is to be tracked."""
        given = self.world.judged().model_dump(mode="json", exclude_none=True)
        request = {**given, "name": "my run", "track": {"registry": "mlflow", **track}}
        self.world.submit(type(self.world.judged()).model_validate(request))
        held = self.world.claim()
        assert held is not None
        return held

    def tell(self, held: service.Claim, *steps: int, stage: str = "distill") -> None:
        events: list[tuple[str, dict[str, Any]]] = [("stage", {"stage": stage})]
        events += [("metric", {"name": "loss", "value": 1 / (1 + step), "step": step}) for step in steps]
        with self.world.db.sessions.begin() as s:
            assert service.record(s, held.job_id, held.fence, events)

    def once(self) -> bool:
        """One look, at a time when every wait is over."""
        with self.world.db.sessions.begin() as s:
            s.execute(update(Track).values(not_before=db_now() - 1))
        return Tracker(self.world.settings).track_one()

    def row(self, held: service.Claim) -> Track:
        with self.world.db.readers() as s:
            return s.get_one(Track, held.job_id)

    def run(self, held: service.Claim) -> Run:
        (found,) = [run for run in self.server.runs.values() if run.tags["ladapress.job"] == held.job_id]
        return found


@pytest.fixture
def scene(tmp_path: Path, sqlite_url: str) -> Iterator[TrackScene]:
    with standing_in() as server:
        (tmp_path / "token").write_text(TOKEN + "\n")
        table = f'kind = "mlflow"\nurl = "{server.url}"\ntoken_file = "{tmp_path}/token"\n'
        file = tmp_path / "registries.toml"
        file.write_text(f'[mlflow]\n{table}[own]\n{table}prefixes = ["acme "]\n[other]\n{table}projects = ["proj_x"]\n')
        made = Settings(data_dir=tmp_path, database_url=sqlite_url, registries_file=file, push_retry_s=0.01)
        yield TrackScene(World(connect(made), made, itertools.count(1)), server)


def test_curves_come_while_the_job_runs_and_its_end_with_the_figures(scene: TrackScene) -> None:
    """Nothing more is sent after that."""
    held = scene.job(experiment="sentiment")
    scene.tell(held, 0, 1)
    assert scene.once()
    run = scene.run(held)
    assert (run.info["status"], run.info["run_name"], run.tags["ladapress.stage"]) == ("RUNNING", "my run", "distill")
    assert list(scene.server.experiments) == ["sentiment"]
    assert run.params["preset"] == "ladabert-1"
    assert run.params["target.parameter_ratio"]
    assert run.curve("loss") == [(0, 1.0), (1, 0.5)]
    assert not scene.once()
    scene.tell(held, 2, stage="verify")
    assert scene.once()
    assert run.curve("loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    publish(scene.world, held)
    assert scene.once()
    assert (run.info["status"], run.tags["ladapress.stage"]) == ("FINISHED", "verify")
    assert run.curve("retention") == [(0, 0.989)]
    assert run.params["recipe.version"] == "1"
    assert not scene.once()
    assert scene.server.tokens == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(("how", "status"), [("failed", "FAILED"), ("cancelled", "KILLED")])
def test_a_run_ends_as_its_job(scene: TrackScene, how: str, status: str) -> None:
    held = scene.job()
    with scene.world.db.sessions.begin() as s:
        if how == "failed":
            service.fail(s, held.job_id, held.fence, Problem.of("training_diverged", "x"))
        else:
            service.cancel(s, scene.world.scope, held.job_id)
            service.finish_cancel(s, held.job_id, held.fence)
    assert scene.once()
    run = scene.run(held)
    assert run.info["status"] == status
    assert run.tags.get("ladapress.error") == ("training_diverged" if how == "failed" else None)
    assert list(scene.server.experiments) == ["ladapress"]


def test_a_server_that_is_away_gets_everything_later(scene: TrackScene) -> None:
    """The job ends meanwhile as if nothing were; the row says what is wrong, without the token."""
    held = scene.job()
    scene.server.away = True
    for step in range(3):
        scene.tell(held, step)
        assert scene.once()
    publish(scene.world, held)
    assert scene.world.job(held.job_id).state is State.SUCCEEDED
    assert scene.once()
    row = scene.row(held)
    assert (row.failures, row.finished_at, (row.error or {})["code"]) == (4, None, "registry_unreachable")
    assert TOKEN not in str(row.error)
    scene.server.away = False
    assert scene.once()
    run = scene.run(held)
    assert run.curve("loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert run.info["status"] == "FINISHED"
    assert scene.row(held).error is None


@pytest.mark.parametrize("calls", range(8))
def test_an_answer_that_is_lost_leaves_nothing_twice(scene: TrackScene, calls: int) -> None:
    """Whichever call it was: one run, each point once."""
    held = scene.job()
    scene.tell(held, 0, 1)
    publish(scene.world, held)
    scene.server.deaf_after = calls
    scene.once()
    scene.server.away, scene.server.deaf_after = False, None
    scene.once()
    run = scene.run(held)
    assert (run.curve("loss"), run.info["status"]) == ([(0, 1.0), (1, 0.5)], "FINISHED")
    assert not scene.once()


def test_a_refusal_ends_the_tracking_and_not_the_job(scene: TrackScene) -> None:
    held = scene.job()
    assert scene.once()
    scene.run(held).params["task"] = "another"
    with scene.world.db.sessions.begin() as s:
        s.execute(update(Track).values(run_id=None))
    scene.tell(held, 0)
    assert scene.once()
    row = scene.row(held)
    assert row.finished_at is not None
    assert (row.error or {})["code"] == "registry_refused"
    assert not scene.once()
    publish(scene.world, held)
    assert scene.world.job(held.job_id).state is State.SUCCEEDED


def test_a_deleted_job_is_not_tracked_any_more(scene: TrackScene) -> None:
    held = scene.job()
    publish(scene.world, held)
    with scene.world.db.sessions.begin() as s:
        service.delete_job(s, scene.world.scope, held.job_id)
    assert not scene.once()


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"registry": "nowhere"}, "/track/registry"),
        ({"registry": "other"}, "/track/registry"),
        ({"registry": "own", "experiment": "theirs"}, "/track/experiment"),
        ({"registry": "mlflow", "experiment": "a/b"}, "/track/experiment"),
    ],
)
def test_only_what_the_operator_allows_is_tracked(scene: TrackScene, asked: dict[str, str], param: str) -> None:
    """A registry of others is answered like an absent one."""
    registries = Registries.load(scene.world.settings)
    with pytest.raises(Refused) as caught:
        registries.tracker(scene.world.scope.project_id, TrackRequest.model_validate(asked), at="/track")
    assert caught.value.problem.param == param
    for good in (
        {"registry": "own", "experiment": "acme x"},
        {"registry": "own"},
        {"registry": "own", "experiment": "ladapress"},
    ):
        registries.tracker(scene.world.scope.project_id, TrackRequest.model_validate(good))
