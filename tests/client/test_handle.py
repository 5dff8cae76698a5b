"""A job in hand: its fields, and calls that bring them up to date."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ladapress import Client, JobHandle, LadapressError, types

from tests.client.conftest import Service, Uploaded
from tests.client.hand import FILES, LAST, SUCCEED, TWO_POINTS


def create(client: Client, uploaded: Uploaded, seed: int) -> Any:
    return client.jobs.create(
        model=uploaded.model, train=uploaded.train, eval=uploaded.eval, preset="ladabert-1", seed=seed
    )


def test_a_job_is_waited_for_and_downloaded_by_its_handle(client: Client, uploaded: Uploaded, tmp_path: Path) -> None:
    seen: list[types.JobEvent] = []
    job = create(client, uploaded, SUCCEED)
    assert isinstance(job, types.Job)
    assert job.wait(on_event=seen.append) is job
    assert (job.status, job.target_met) == ("succeeded", True)
    assert [event.seq for event in job.events()] == [event.seq for event in seen] == [*range(1, len(seen) + 1)]
    assert job.download(tmp_path / "out") == (tmp_path / "out",)
    assert (tmp_path / "out/model.onnx").read_bytes() == FILES["model.onnx"]
    job.delete()
    with pytest.raises(LadapressError, match="no job has this id"):
        job.refresh()


def test_every_point_gets_a_folder(client: Client, uploaded: Uploaded, tmp_path: Path) -> None:
    folders = create(client, uploaded, TWO_POINTS).wait().download(tmp_path / "out")
    assert folders == (tmp_path / "out/0", tmp_path / "out/1")
    assert all((folder / "manifest.json").is_file() for folder in folders)


def test_a_cancelled_job_has_nothing_to_download(client: Client, uploaded: Uploaded, tmp_path: Path) -> None:
    job = create(client, uploaded, LAST)
    job.cancel()
    assert job.wait(timeout_s=30).status == "cancelled"
    with pytest.raises(LadapressError) as nothing:
        job.download(tmp_path / "out")
    assert nothing.value.code == "nothing_to_download"
    assert not (tmp_path / "out").exists()


def test_listed_jobs_are_handles(client: Client, uploaded: Uploaded) -> None:
    job = create(client, uploaded, SUCCEED)
    job.wait()
    (listed,) = [one for one in client.jobs.list(limit=1).data if one.id == job.id]
    assert listed.refresh().status == "succeeded"


def test_a_job_is_paused_goes_on_is_cancelled_and_done_again(client: Client, uploaded: Uploaded) -> None:
    job = create(client, uploaded, LAST)
    until(job, "running")
    assert job.pause() is job
    assert until(job, "paused").resume() is job
    assert until(job, "running").attempt == 1  # no attempt is lost by a pause
    job.cancel().wait()
    again = job.retry(metadata={"team": "search"}, limits={"max_runtime_s": 60})
    try:
        assert isinstance(again, JobHandle)
        assert (job.status, again.parent_job_id) == ("cancelled", job.id)
        assert (again.metadata, again.limits.max_runtime_s) == ({"team": "search"}, 60)
        listed = client.jobs.list(model=uploaded.model, status=["queued", "running"])
        assert [one.id for one in listed] == [again.id]
    finally:
        again.cancel().wait()


def until(job: Any, status: str) -> Any:
    """The job, once it is so."""
    end = time.monotonic() + 30
    while job.refresh().status != status:
        assert time.monotonic() < end, job
        time.sleep(0.02)
    return job


def test_a_job_tells_its_curves(client: Client, uploaded: Uploaded) -> None:
    job = create(client, uploaded, SUCCEED).wait()
    assert isinstance(job.metrics(), types.JobCurveList)
    assert client.jobs.metrics(job.id, name="loss").data == [one for one in job.metrics().data if one.name == "loss"]


def test_what_goes_by_itself_is_kept_until_it_is_told(client: Client, uploaded: Uploaded) -> None:
    """A time, and None for never."""
    job = create(client, uploaded, SUCCEED).wait()
    (artifact,) = client.artifacts.list(job_id=job.id)
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    for kept in (
        client.artifacts.keep(artifact.id, expires_at=later),
        client.models.keep(uploaded.model, expires_at=later),
        client.datasets.keep(uploaded.train, expires_at=later.isoformat()),
    ):
        assert kept.expires_at == later
    assert client.artifacts.keep(artifact.id, expires_at=None).expires_at is None
    client.artifacts.delete(artifact.id)
    assert client.artifacts.get(artifact.id).expired_at is not None  # its figures stay, its files are gone


def test_what_the_service_answers_to_a_wait_with_a_limit_is_told(
    client: Client, service: Service, uploaded: Uploaded
) -> None:
    job = create(client, uploaded, LAST)
    try:
        with pytest.raises(LadapressError) as late:
            job.wait(timeout_s=0)
        assert late.value.code == "timeout"
    finally:
        job.cancel().wait()
