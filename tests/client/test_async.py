"""`AsyncClient` over real HTTP: the same work as `Client`, on an event loop that stays free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import pytest
from ladapress import AsyncClient, Client, LadapressError, types
from ladapress.modes import drive, drive_each

from tests.client.conftest import Inputs, Service, Uploaded
from tests.client.hand import FILES, SLOW, SUCCEED
from tests.client.wire import Wire


def test_upload_create_wait_and_download(service: Service, inputs: Inputs, tmp_path: Path) -> None:
    async def session() -> types.Job:
        async with AsyncClient(service.url) as client:
            model, train, evaluation = await asyncio.gather(
                client.models.upload(inputs.model),
                client.datasets.upload(inputs.train),
                client.datasets.upload(inputs.eval),
            )
            job = await client.jobs.create(
                model=model.id, train=train.id, eval=evaluation.id, preset="ladabert-1", seed=SUCCEED
            )
            seen = [event.seq async for event in job.events()]
            assert seen == [*range(1, len(seen) + 1)]
            await job.wait()
            assert job.id in [one.id async for one in client.jobs.list(limit=3)]
            await job.download(tmp_path / "out")
            return job

    job = asyncio.run(session())
    assert (job.status, job.target_met) == ("succeeded", True)
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == set(FILES)


def test_cut_streams_and_downloads_go_on(
    service: Service, wire: Wire, client: Client, uploaded: Uploaded, tmp_path: Path
) -> None:
    job_id = client.jobs.create(
        model=uploaded.model, train=uploaded.train, eval=uploaded.eval, preset="ladabert-1", seed=SLOW
    ).id
    wire.fault(f"GET /v1/jobs/{job_id}/events", "cut", after=900)
    moved: list[int] = []

    async def session() -> list[int]:
        async with AsyncClient(wire.url) as through:
            seen = [event.seq async for event in through.jobs.events(job_id)]
            job = await through.jobs.get(job_id)
            artifact_id = job.points[0].artifact_id
            wire.fault(f"GET /v1/artifacts/{artifact_id}/files/model.onnx", "cut", after=200_000)
            await job.download(tmp_path / "out", moved=moved.append)
            return seen

    seen = asyncio.run(session())
    assert wire.pending == 0
    assert seen == [*range(1, len(seen) + 1)]
    assert sum(moved) == sum(map(len, FILES.values()))
    assert min(moved) >= 0


def test_the_loop_goes_on_while_a_job_is_waited_for(service: Service, client: Client, uploaded: Uploaded) -> None:
    """Another task of the same loop lets the job end; a wait that held the loop would never see it."""
    service.hand.slow_step.clear()
    job_id = client.jobs.create(
        model=uploaded.model, train=uploaded.train, eval=uploaded.eval, preset="ladabert-1", seed=SLOW
    ).id

    async def session() -> str:
        async with AsyncClient(service.url) as waiting:
            started = asyncio.Event()
            wait = asyncio.ensure_future(waiting.jobs.wait(job_id, on_event=lambda _: started.set()))
            await started.wait()
            service.hand.slow_step.set()
            return (await wait).status

    try:
        assert asyncio.run(session()) == "succeeded"
    finally:
        service.hand.slow_step.set()


def test_a_task_that_is_cancelled_lets_go_of_its_stream(service: Service, client: Client, uploaded: Uploaded) -> None:
    service.hand.slow_step.clear()
    job = client.jobs.create(
        model=uploaded.model, train=uploaded.train, eval=uploaded.eval, preset="ladabert-1", seed=SLOW
    )

    async def session() -> None:
        async with AsyncClient(service.url) as waiting:
            with anyio.move_on_after(0.3) as scope:
                await waiting.jobs.wait(job.id)
            assert scope.cancelled_caught
            assert (await waiting.jobs.get(job.id)).status == "running"

    try:
        asyncio.run(session())
    finally:
        service.hand.slow_step.set()
        job.wait()


def test_an_upload_that_is_cancelled_is_taken_back(service: Service, client: Client, inputs: Inputs) -> None:
    before = {model.id for model in client.models.list(limit=100).data}

    async def session() -> None:
        async with AsyncClient(service.url) as uploading:
            with anyio.CancelScope() as scope:
                await uploading.models.upload(inputs.model, moved=lambda count: scope.cancel() if count else None)
            assert scope.cancelled_caught

    asyncio.run(session())
    assert {model.id for model in client.models.list(limit=100).data} == before


def test_an_absent_service_is_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ladapress.transport.FIRST_CONTACT_S", 0.2)

    async def ask() -> None:
        async with AsyncClient("http://127.0.0.1:9") as client:
            await client.presets()

    with pytest.raises(LadapressError) as absent:
        asyncio.run(ask())
    assert absent.value.code == "unreachable"


def test_the_synchronous_client_works_inside_a_running_loop(client: Client) -> None:
    """As in a notebook."""

    async def cell() -> list[Any]:
        return [*client.jobs.list(limit=2)][:1] + client.presets().data

    assert asyncio.run(cell())


def test_what_waits_for_a_loop_is_refused_without_one() -> None:
    async def waits() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waits for an event loop"):
        drive(waits())


def test_a_stream_that_is_left_early_is_closed() -> None:
    closed: list[bool] = []

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            for number in range(5):
                yield number
        finally:
            closed.append(True)

    source = numbers()  # held here, so that no collector closes it
    for number in (stream := drive_each(source)):
        if number == 2:
            break
    assert not closed
    stream.close()
    assert closed == [True]
    assert list(drive_each(numbers())) == [0, 1, 2, 3, 4]
