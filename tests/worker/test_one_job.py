"""One job under the real supervisor, embedded and under Celery: how it ends in each case.

All of it in one file: the workers that it shares take longer to start than its jobs to run.
"""

import itertools
import json
import os
import signal
from pathlib import Path

import pytest

from jobs import service
from jobs.states import State
from jobs.tables import Checkpoint
from tests.jobs.hooked import endpoint
from tests.jobs.world import World
from tests.s3 import S3
from tests.worker import fake_engine
from tests.worker.conftest import MakeScene
from tests.worker.receiver import receiver
from tests.worker.scene import Scene, members, until, worker


def test_a_job_runs_to_its_one_artifact(scene: Scene) -> None:
    """A submitted job is inspected, run and published: one artifact, the engine's bytes, sealed; all stages told."""
    job = scene.wait(scene.submit(steps=3))
    assert (job.state, job.attempt, job.error) == (State.SUCCEEDED, 1, None)
    (files,) = scene.artifacts(job.id)
    assert set(files) == {"model.onnx", "found.json", "manifest.json", "signature.json"}
    assert (files["model.onnx"], files["found.json"]) == (fake_engine.DATA, b"{}")
    assert job.report is not None
    assert job.report["point"]["target_met"]
    assert ("stage", {"stage": "distill"}) in scene.told(job.id)


def test_whom_a_job_names_is_told_of_it(scene: Scene) -> None:
    """From the row to the socket, with nothing else started: signed, and thin."""
    world = World(scene.db, scene.settings, itertools.count())
    with receiver() as there:
        id_, secret = endpoint(world, f"{there.url}/ok", events=())
        job = scene.wait(scene.submit(asked={"preset": "ladabert-1", "webhook": {"endpoint": id_}}))
        until(lambda: len(there.got) == 2, 60)
    told = [json.loads(got.body) for got in there.got if got.signed_by(secret)]
    assert {each["type"] for each in told} == {"job.running", "job.succeeded"}
    assert {each["data"]["id"] for each in told} == {job.id}


def test_what_a_job_measured_is_told_to_its_next_attempt(scene: Scene) -> None:
    """A child that dies after it has measured: the second plans on the very same profile."""
    job_id = scene.submit(asked={"preset": "fast"}, measures=True, rests_at=1)
    scene.wait_started(job_id)
    os.killpg(scene.busy_group(), signal.SIGKILL)
    job = scene.wait(job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
    (files,) = scene.artifacts(job_id)
    assert json.loads(files["told.json"])["int8"] == 0.25


def test_a_dry_run_ends_with_a_profile_and_nothing_else(scene: Scene) -> None:
    job = scene.wait(scene.submit(asked={"preset": "fast", "dry_run": True}, measures=True))
    assert (job.state, job.report) == (State.SUCCEEDED, None)
    assert scene.artifacts(job.id) == []
    with scene.db.readers() as s:
        found = service.find_profile(s, job.project_id, job.profile_key)
    assert found is not None
    assert found.int8 == 0.25


def test_what_a_child_prints_does_not_matter(scene: Scene) -> None:
    """Garbage on standard output, standard error and even the pipe of events leaves the job as it would be."""
    job = scene.wait(scene.submit(babble=True))
    assert job.state is State.SUCCEEDED
    assert len(scene.artifacts(job.id)) == 1
    assert max(data["fraction"] for kind, data in scene.told(job.id) if kind == "progress") < 1


def test_a_killed_child_costs_one_attempt(scene: Scene) -> None:
    """kill -9 of the child in the middle: the second attempt delivers, once."""
    job_id = scene.submit(rests_at=1)
    scene.wait_started(job_id)
    os.killpg(scene.busy_group(), signal.SIGKILL)
    job = scene.wait(job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
    assert len(scene.artifacts(job_id)) == 1


def test_cancel_ends_the_group(scene: Scene) -> None:
    """A cancelled job's child is gone with everything that it started, and publishes nothing."""
    job_id = scene.submit(steps=1000, step_s=0.1, spawn=True)
    scene.wait_started(job_id)
    group = scene.busy_group()
    assert len(members(group)) == 3  # keeper, engine, the engine's own program
    scene.cancel(job_id)
    until(lambda: not members(group), 5)
    assert scene.wait(job_id).state is State.CANCELLED
    assert scene.artifacts(job_id) == []


def test_a_poison_job_is_tried_three_times(scene: Scene) -> None:
    """A job that kills every child fails after exactly three attempts, and its log's end says what happened."""
    job = scene.wait(scene.submit(die_at=1))
    assert (job.state, job.attempt) == (State.FAILED, 3)
    assert job.error is not None
    assert job.error["code"] == "worker_lost"
    assert "I shall die now" in job.error["detail"]
    assert scene.artifacts(job.id) == []


def test_an_error_of_the_engine_ends_the_job_at_once(scene: Scene) -> None:
    """What would happen again is not tried again; the user reads the engine's own sentence."""
    error = {"code": "training_diverged", "detail": "loss is NaN", "param": None, "errors": [], "retryable": False}
    job = scene.wait(scene.submit(error=error))
    assert (job.state, job.attempt) == (State.FAILED, 1)
    assert job.error is not None
    assert (job.error["code"], job.error["detail"]) == ("training_diverged", "loss is NaN")


def test_the_wall_ends_a_job_that_runs_too_long(scene: Scene) -> None:
    """limits.max_runtime_s is a wall: failed(timeout), nothing published, the child gone."""
    job = scene.wait(scene.submit(steps=1000, step_s=0.1, limits={"max_runtime_s": 1}))
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error["code"] == "timeout"
    assert scene.artifacts(job.id) == []


def test_a_link_out_of_the_folder_is_not_delivered(scene: Scene) -> None:
    """A child that names a link to a file of the host as its result gets the job failed, and nothing published."""
    job = scene.wait(scene.submit(link_to="/etc/passwd"))
    assert job.state is State.FAILED
    assert job.error is not None
    assert "linked" in job.error["detail"]
    assert scene.artifacts(job.id) == []


def test_the_next_attempt_goes_on_from_the_checkpoint_of_the_killed_one(scene: Scene) -> None:
    job_id = scene.submit(steps=8, keep_at=5, rests_at=5)
    until(lambda: scene.count(Checkpoint) == 1, 60)
    os.killpg(scene.busy_group(), signal.SIGKILL)
    job = scene.wait(job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
    (files,) = scene.artifacts(job_id)
    assert files["left.json"] == b'["5"]'
    until(lambda: scene.count(Checkpoint) == 0, 30)  # none once the job has ended


def test_a_checkpoint_that_leads_out_of_its_folder_is_not_kept(scene: Scene) -> None:
    """The store is not a way to read the worker's files; the job itself goes on."""
    job_id = scene.submit(steps=10, step_s=0.05, keep_at=2, keep_link=True)
    job = scene.wait(job_id)
    assert job.state is State.SUCCEEDED
    assert scene.count(Checkpoint) == 0


def test_a_job_runs_with_its_store_in_s3(
    make_scene: MakeScene, s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Inputs are fetched, a checkpoint is gone on from, the artifact is sealed there; credentials come by AWS_*."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    scene = make_scene("embedded", **s3.settings(tmp_path).model_dump(include={"store_url", "store_endpoint"}))
    with worker(scene):
        job_id = scene.submit(steps=8, keep_at=5, rests_at=5)
        until(lambda: scene.count(Checkpoint) == 1, 60)
        os.killpg(scene.busy_group(), signal.SIGKILL)
        job = scene.wait(job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
    (files,) = scene.artifacts(job_id)
    assert set(files) == {"model.onnx", "found.json", "left.json", "manifest.json", "signature.json"}
    assert (files["model.onnx"], files["left.json"]) == (fake_engine.DATA, b'["5"]')
    assert [path for path in scene.settings.store_dir.rglob("*") if path.is_file()] == []
