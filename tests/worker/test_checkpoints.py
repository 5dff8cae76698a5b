"""Checkpoints on their way from one attempt to the next, under the real supervisor."""

import os
import signal

from jobs.states import State
from jobs.tables import Checkpoint
from tests.worker.scene import Scene, until


def test_the_next_attempt_goes_on_from_the_checkpoint_of_the_killed_one(scene: Scene) -> None:
    job_id = scene.submit(steps=60, step_s=0.1, keep_at=5)
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
