"""A job in hand: its fields, and calls that bring them up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
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


def test_pause_and_resume_act_on_the_handle_and_retry_gives_another(client: Client, uploaded: Uploaded) -> None:
    """Played by a service that knows them, on the fields of a real job."""
    real = create(client, uploaded, SUCCEED).wait().model_dump(mode="json")
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        verb = request.url.path.rpartition("/")[2]
        asked.append(f"{request.method} {verb}")
        change = {"pause": {"status": "pausing"}, "resume": {"status": "queued"}, "retry": {"id": "job_2"}}
        return httpx2.Response(202, json={**real, **change.get(verb, {})})

    with Client("http://service", handler=httpx2.MockTransport(answer)) as played:
        job = played.jobs.get("job_1")
        assert job.pause() is job
        assert job.status == "pausing"
        assert job.resume().status == "queued"
        again = job.retry()
    assert asked[1:] == ["POST pause", "POST resume", "POST retry"]
    assert isinstance(again, JobHandle)
    assert (job.id, again.id) == (real["id"], "job_2")


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
