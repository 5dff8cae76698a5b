"""The public API as a user's type checker sees it. Nothing runs this file: `make check` reads it with mypy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any, assert_type

from ladapress import Async, AsyncClient, Client, JobHandle, Page, Sync, types
from ladapress.pages import AsyncList


def synchronous(client: Client) -> None:
    """Calls give their result."""
    assert_type(client.models.upload("folder"), types.Model)
    job = client.jobs.create(model="mod_1", train="ds_1", eval="ds_2", target={"parameter_ratio": 2})
    assert_type(job, JobHandle[Sync])
    assert_type(job.points[0].retention, float)
    assert_type(job.wait(timeout_s=1).download(Path("out")), tuple[Path, ...])
    assert_type(job.events(after=3), Iterator[types.JobEvent])
    assert_type(client.jobs.list(status="failed"), Page[Sync, JobHandle[Sync]])
    for one in client.jobs.list(metadata={"team": "search"}):
        assert_type(one.retry(), JobHandle[Sync])
    assert_type(client.datasets.list(limit=5).data, list[types.Dataset])
    client.jobs.get(job="job_1")  # type: ignore[call-arg]  # the parameter is job_id
    client.jobs.wait("job_1", timeout_s="soon")  # type: ignore[arg-type]
    client.jobs.create(model="mod_1", train="ds_1")  # type: ignore[call-arg]  # eval is missing


async def asynchronous(client: AsyncClient) -> None:
    """The same calls are awaited."""
    waiting = client.models.get("mod_1")
    assert_type(waiting, Coroutine[Any, Any, types.Model])  # type: ignore[unused-coroutine]
    assert_type(await waiting, types.Model)
    job = await client.jobs.create(model="mod_1", train="ds_1", eval="ds_2")
    assert_type(job, JobHandle[Async])
    assert_type(await job.wait(), JobHandle[Async])
    assert_type(job.events(), AsyncIterator[types.JobEvent])
    assert_type(client.jobs.list(), AsyncList[JobHandle[Async]])
    assert_type(await client.jobs.list(), Page[Async, JobHandle[Async]])
    async for one in client.jobs.list():
        assert_type(one, JobHandle[Async])
    for other in client.jobs.list():  # type: ignore[attr-defined]  # only `async for` walks it
        print(other)
