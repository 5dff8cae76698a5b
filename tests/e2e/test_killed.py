"""The real engine under kill -9 and cancel, over HTTP, in both forms: nothing lost, published twice or left alive."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ladapress.client import Client
from ladapress.types import Job

from demo import service
from tests import tiny

FORMS = {"embedded": service.embedded, "celery": service.celery}
# What is killed is the process that holds the job; `up`, or the node's own parent, starts it again.
HOLDER = {"embedded": ("-m", "worker"), "celery": ("--node", "job")}
# Short leases, so that a lost worker is noticed soon; many checkpoints, so that there is one when it is lost.
SETTINGS = {"LADAPRESS_LEASE_S": "4", "LADAPRESS_TICK_S": "0.5", "LADAPRESS_POLL_S": "1", "LADAPRESS_THREADS": "1"}
SETTINGS |= {"LADAPRESS_CHECKPOINT_S": "0.5"}
STEPS = [{"method": "svd"}, {"method": "magnitude"}, {"method": "distill", "epochs": 30}]
SOON_S = 180.0


class Place:
    """A running service with a model and data in it, and the processes that work for it."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client, self.folder = client, folder
        self.model = client.models.upload(tiny.write_model(folder / "model", steps=60))
        self.train = client.datasets.upload(tiny.write_csv(folder / "train.csv", tiny.sentences(300, seed=1)))
        self.eval = client.datasets.upload(tiny.write_csv(folder / "eval.csv", tiny.sentences(100, seed=2)))

    def submit(self) -> str:
        job = self.client.jobs.create(
            model=self.model.id,
            train=self.train.id,
            eval=self.eval.id,
            recipe={"steps": STEPS},
            target={"parameter_ratio": 1.8},
            cache="bypass",  # the second one has to train, too
        )
        return str(job.id)

    def processes(self, *words: str) -> list[int]:
        """Those of this service whose command line holds every word."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
                ours = str(self.folder).encode() in (entry / "environ").read_bytes()
            except OSError:
                continue
            if ours and all(word.encode() in command for word in words):
                found.append(int(entry.name))
        return found

    def training(self, job_id: str, attempt: int) -> Job:
        """The job, in the middle of training in this attempt."""
        end = time.monotonic() + SOON_S
        while time.monotonic() < end:
            job = self.client.jobs.get(job_id)
            assert job.status in ("queued", "running"), job
            step, steps = job.progress.step or 0, job.progress.steps or 0
            # The last word of the stage before, "1 of 1", may still stand there.
            if job.attempt == attempt and job.stage == "distill" and 0.3 * steps < step < steps - 10:
                return job
            time.sleep(0.1)
        raise AssertionError(f"not training in attempt {attempt}: {self.client.jobs.get(job_id)}")

    def kill(self, *words: str) -> None:
        for pid in self.processes(*words):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def place(form: str, folder: Path) -> Iterator[Place]:
    with FORMS[form](folder / "service", SETTINGS) as url, Client(url) as client:
        yield Place(client, folder)


@pytest.mark.parametrize("form", ["embedded", pytest.param("celery", marks=pytest.mark.long)])
def test_a_job_survives_the_death_of_its_child_and_of_its_worker_and_a_cancel_ends_it(
    form: str, tmp_path: Path
) -> None:
    with place(form, tmp_path) as here:
        job = survivor(here, form)
        assert job.attempt == 3
        files = here.client.artifacts.download(job.points[0].artifact_id, tmp_path / "out")
        assert "model.onnx" in {path.name for path in files}
        warned = [event.data for event in here.client.jobs.events(job.id) if event.type == "warning"]
        assert any(said["code"] == "resumed" for said in warned), warned

        job_id = here.submit()
        here.training(job_id, attempt=1)
        busy = max(here.processes("worker.child", "compress"), key=cpu_ticks)  # the other one waits, warm
        here.client.jobs.cancel(job_id)
        assert here.client.jobs.wait(job_id, timeout_s=30).status == "cancelled"
        assert busy not in here.processes("worker.child", "compress")
        assert here.client.jobs.get(job_id).points == []


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("form", FORMS)
def test_who_survived_delivers_what_an_uninterrupted_job_does(form: str, tmp_path: Path) -> None:
    """To the byte."""
    with place(form, tmp_path) as here:
        jobs = survivor(here, form), here.client.jobs.wait(here.submit(), timeout_s=SOON_S)
        assert not any(job.cache_hit for job in jobs)
        for job in jobs:
            here.client.artifacts.download(job.points[0].artifact_id, tmp_path / job.id)
        killed, quiet = ((tmp_path / job.id / "model.onnx").read_bytes() for job in jobs)
        assert killed == quiet


def survivor(here: Place, form: str) -> Job:
    """A job that lost its child in the first attempt, its worker in the second, and went through."""
    job_id = here.submit()
    here.training(job_id, attempt=1)
    here.kill("worker.child", "compress")
    here.training(job_id, attempt=2)
    here.kill(*HOLDER[form])
    job: Job = here.client.jobs.wait(job_id, timeout_s=SOON_S)
    assert job.status == "succeeded", job.error
    return job


def cpu_ticks(pid: int) -> int:
    """User + system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
