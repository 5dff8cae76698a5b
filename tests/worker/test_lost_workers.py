"""What is left when a worker is killed, stopped, or asked to leave in the middle of a job."""

import json
import os
import signal
import subprocess
import time

from sqlalchemy import select

from jobs.states import State
from jobs.tables import Artifact
from tests.worker import fake_engine
from tests.worker.conftest import MakeScene
from tests.worker.scene import Scene, members, rescuer, until, worker
from worker import kernel, roster


def holder(scene: Scene, job_id: str) -> int:
    """The process id of the worker that holds the job."""
    return int(str(scene.job(job_id).worker).rpartition(":")[2])


def test_a_killed_worker_costs_one_attempt_and_leaves_nothing(make_scene: MakeScene, form: str) -> None:
    """kill -9 of the worker: the child and all that it started end at once, and another worker delivers."""
    scene = make_scene(form)
    with worker(scene, only_jobs=True) as process:
        job_id = scene.submit(judged=True, rests_at=1, spawn=True)
        scene.wait_started(job_id)
        group = scene.busy_group()
        assert len(members(group)) == 3
        process.kill()
        until(lambda: not members(group), 5)
        process.wait(30)  # its children may be gone before it is
    with rescuer(scene):
        job = scene.wait(job_id)
        assert len(list(scene.settings.work_dir.iterdir())) == 1  # the dead worker's folder is gone
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
    (files,) = scene.artifacts(job_id)
    assert files["model.onnx"] == fake_engine.DATA
    assert list(scene.settings.work_dir.iterdir()) == []


def test_a_drain_hands_the_job_back_unburnt(make_scene: MakeScene, form: str) -> None:
    """SIGTERM: the worker leaves soon, the job is queued again with no attempt burnt, no child is left."""
    scene = make_scene(form)
    with worker(scene, only_jobs=True) as process:
        job_id = scene.submit(judged=True, steps=1000, step_s=0.1, spawn=True)
        scene.wait_started(job_id)
        group = scene.busy_group()
        process.terminate()
        assert process.wait(30) == 0
        assert not members(group)
    job = scene.job(job_id)
    assert (job.state, job.attempt, job.lease_until) == (State.QUEUED, 0, None)
    assert scene.artifacts(job_id) == []


def test_a_holder_that_slept_past_its_lease_publishes_nothing(make_scene: MakeScene, form: str) -> None:
    """A stopped worker wakes up with a finished child in its hands, while another works on the job."""
    scene = make_scene(form)
    with worker(scene, only_jobs=True) as process:
        job_id = scene.submit(judged=True, steps=40, step_s=0.1)
        scene.wait_started(job_id)
        (out,) = (path.parent for path in scene.settings.work_dir.glob("*/*/out/0"))
        scene.freeze(process, job_id)
        with rescuer(scene):
            scene.wait_started(job_id, attempt=2)
            until((out / "0" / "model.onnx").exists, 60)  # the sleeper's child has done its work
            process.send_signal(signal.SIGCONT)
            until(lambda: not out.exists(), 60)  # the sleeper has dealt with what it held
            job = scene.wait(job_id)
    assert (job.state, job.attempt, job.fence) == (State.SUCCEEDED, 2, 2)
    with scene.db.readers() as s:
        assert s.scalars(select(Artifact.fence)).all() == [2]


def test_the_worker_works_while_the_broker_is_away(make_scene: MakeScene) -> None:
    """With a broker that nobody answers for, jobs run all the same: the worker looks at the table."""
    scene = make_scene("embedded", broker_url="redis://127.0.0.1:1/0")
    with worker(scene, only_jobs=True):
        assert scene.wait(scene.submit(judged=True)).state is State.SUCCEEDED


def test_the_parent_of_the_nodes_replaces_one_that_died(make_scene: MakeScene) -> None:
    """A killed Celery node is started again and delivers; when the parent is killed, both nodes drain and leave."""
    scene = make_scene("celery")
    with worker(scene) as process:
        job_id = scene.submit(judged=True, steps=1000, step_s=0.1)
        scene.wait_started(job_id)
        first = holder(scene, job_id)
        os.kill(first, signal.SIGKILL)
        scene.wait_started(job_id, attempt=2)
        assert holder(scene, job_id) != first
        group = scene.busy_group()
        process.kill()
        until(lambda: not members(group) and not scene.groups(), 60)
    assert scene.job(job_id).state is State.QUEUED


def test_groups_left_by_dead_workers_are_ended(make_scene: MakeScene) -> None:
    """A starting worker ends exactly the recorded groups that are still the same processes."""
    work = make_scene("embedded").settings.work_dir
    orphan, stranger = (subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(2))
    try:
        dead = work / "1234-dead"
        dead.mkdir(parents=True)
        (dead / "lock").touch()
        start = kernel.process_start(orphan.pid)
        known = [{"pid": orphan.pid, "start": start}, {"pid": stranger.pid, "start": (start or 0) - 1}]
        (dead / "groups.jsonl").write_text("".join(json.dumps(each) + "\n" for each in known) + '{"pid": 1')
        living = roster.Roster(work)
        assert roster.sweep(work) == 1
        assert orphan.wait(5) == -signal.SIGKILL
        time.sleep(0.1)
        assert stranger.poll() is None
        assert [path.name for path in work.iterdir()] == [living.folder.name]
        living.close()
    finally:
        for process in (orphan, stranger):
            process.kill()
            process.wait()
