"""Compressions: `client.jobs`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, Unpack

from ladapress import events, types
from ladapress.errors import LadapressError
from ladapress.handle import JobHandle
from ladapress.modes import Mode, operation, stream
from ladapress.pages import Asked, Window, listing, query
from ladapress.resource import Resource
from ladapress.transport import given, place

OnEvent = Callable[[types.JobEvent], None]


class Jobs(Resource[Mode]):
    """Compressions. What is handed out is a `JobHandle`: the job's fields, and calls on it."""

    @operation
    async def create(
        self,
        /,
        *,
        model: str,
        train: str,
        eval: str,  # noqa: A002  # the interface's own word
        select: str | None = None,
        unlabelled: str | None = None,
        columns: Mapping[str, str] | None = None,
        task: str | None = None,
        metric: str | None = None,
        preset: str | None = None,
        recipe: Mapping[str, Any] | types.Recipe | None = None,
        target: Mapping[str, float] | types.Target | None = None,
        ladder: Mapping[str, Sequence[float]] | types.Ladder | None = None,
        outputs: Sequence[str] | None = None,
        seed: int | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        push: Mapping[str, str] | types.PushRequest | None = None,
        cache: Literal["use", "bypass"] | None = None,
        limits: Mapping[str, int] | types.Limits | None = None,
        resources: Mapping[str, Any] | types.Resources | None = None,
        webhook: Mapping[str, Any] | types.JobWebhook | None = None,
        track: Mapping[str, str] | types.TrackRequest | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> JobHandle[Mode]:
        """Start a compression. Sent again after a lost connection, it is still one job.

        Args:
            model: id of a model that is ready.
            train: id of the training rows.
            eval: id of the rows that measure the result.
            cache: "bypass" never takes what an equal job made before; a job that has taken it says `cache_hit`.
            webhook: an endpoint of `client.webhooks` that is told of this job.
            track: the MLflow server, of `client.pushes.registries`, that is sent the curves.
            idempotency_key: the same key and request give the same job; a random one where None.
            options: the other fields of `types.JobRequest` (dry_run, ...). What is left out or None, the service
                decides.

        Raises:
            LadapressError: the service's refusal, with the field at fault in `problem.param`.
        """
        roles = {"train": train, "eval": eval, "select": select, "unlabelled": unlabelled, "columns": columns}
        fields = {
            "model": model, "data": roles, "task": task, "metric": metric, "preset": preset, "recipe": recipe,
            "target": target, "ladder": ladder, "outputs": outputs, "seed": seed, "name": name,
            "metadata": metadata, "push": push, "cache": cache, "limits": limits, "resources": resources,
            "webhook": webhook, "track": track, **options,
        }  # fmt: skip
        return await Jobs.submit(self, fields, idempotency_key=idempotency_key)

    @operation
    async def submit(self, request: Mapping[str, Any], *, idempotency_key: str | None = None) -> JobHandle[Mode]:
        """`create` with the request body as the interface spells it; fields that are None are left out."""
        return await self._job("POST", place("jobs"), json=given(request), idempotency_key=idempotency_key)

    @operation
    async def get(self, job_id: str) -> JobHandle[Mode]:
        """One job as it is now."""
        return await self._job("GET", place("jobs", job_id))

    @listing
    def list(
        self,
        *,
        status: str | Sequence[str] | None = None,
        name: str | None = None,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        **window: Unpack[Window],
    ) -> Asked[JobHandle[Mode]]:
        """Newest first, `limit` a page; `after` is the last id of the page before.

        Args:
            status: of this status, or of one of these.
            model: id of the model that a job compresses.
            metadata: pairs that a job must have all.
        """
        asked = query(window, status=status, name=name, model=model, metadata=metadata)
        return Asked(place("jobs"), lambda row: JobHandle.of(self._transport, row, "GET /v1/jobs"), asked)

    @operation
    async def cancel(self, job_id: str) -> JobHandle[Mode]:
        """Ask a job to stop; it is `cancelling` until its processes are gone."""
        return await self._job("POST", place("jobs", job_id, "cancel"))

    @operation
    async def pause(self, job_id: str) -> JobHandle[Mode]:
        """Ask a job to give its worker back; `resume` goes on from the last checkpoint."""
        return await self._job("POST", place("jobs", job_id, "pause"))

    @operation
    async def resume(self, job_id: str) -> JobHandle[Mode]:
        """Queue a paused job again."""
        return await self._job("POST", place("jobs", job_id, "resume"))

    @operation
    async def retry(
        self,
        job_id: str,
        *,
        limits: Mapping[str, int] | types.Limits | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> JobHandle[Mode]:
        """Do a failed or cancelled job again: a new job of the same request, whose `parent_job_id` is the old one.

        Args:
            limits: in place of those of the request.
            metadata: in place of those of the request.
        """
        return await self.again(job_id, limits, metadata, idempotency_key)

    @operation
    async def delete(self, job_id: str) -> None:
        """Delete an ended job with its artifacts."""
        await self._delete(place("jobs", job_id))

    @operation
    async def metrics(self, job_id: str, *, name: str | None = None) -> types.JobCurveList:
        """The curves of a job so far, such as its training loss; one of them where it is named."""
        return await self.curves(job_id, name)

    @stream
    async def events(self, job_id: str, *, after: int = 0) -> AsyncGenerator[types.JobEvent, None]:
        """What happens to a job, from event number `after` on, until it has ended. Survives cut connections."""
        async with aclosing(events.follow(self._transport, job_id, after=after)) as following:
            async for event in following:
                yield event

    @operation
    async def wait(
        self, job_id: str, *, timeout_s: float | None = None, on_event: OnEvent | None = None
    ) -> JobHandle[Mode]:
        """The job when it has ended, however it ended.

        Raises:
            LadapressError: `timeout` after `timeout_s` seconds; the job goes on.
        """
        return await self.ended(job_id, timeout_s, on_event)

    async def again(
        self,
        job_id: str,
        limits: Mapping[str, int] | types.Limits | None,
        metadata: Mapping[str, str] | None,
        idempotency_key: str | None,
    ) -> JobHandle[Mode]:
        """The body of `retry`, for handles too."""
        other = given({"limits": limits, "metadata": metadata}) or None
        return await self._job("POST", place("jobs", job_id, "retry"), json=other, idempotency_key=idempotency_key)

    async def curves(self, job_id: str, name: str | None) -> types.JobCurveList:
        """The body of `metrics`, for handles too."""
        path = place("jobs", job_id, "metrics")
        return await self._ask(types.JobCurveList, "GET", path, params=given({"name": name}))

    async def ended(self, job_id: str, timeout_s: float | None, on_event: OnEvent | None) -> JobHandle[Mode]:
        """The body of `wait`, for handles too."""
        told = on_event or (lambda _: None)
        if timeout_s is not None:
            return await self._polled(job_id, time.monotonic() + timeout_s, told)
        async for event in events.follow(self._transport, job_id):
            told(event)
        return await Jobs.get(self, job_id)

    async def _polled(self, job_id: str, deadline: float, told: OnEvent) -> JobHandle[Mode]:
        # A stream blocks for as long as nothing happens, so a deadline is held by polling.
        after = 0
        while True:
            job = await Jobs.get(self, job_id)
            async for event in events.page(self._transport, job_id, after):
                after = event.seq
                told(event)
            if job.status in events.TERMINAL:
                return job
            if time.monotonic() >= deadline:
                raise LadapressError.local("timeout", f"{job_id} is still {job.status}", retryable=True)
            await self._transport.port.sleep(min(0.5, max(0.0, deadline - time.monotonic())))

    async def _job(self, method: str, path: str, **options: Any) -> JobHandle[Mode]:
        answer = await self._transport.json(method, path, **options)
        return JobHandle.of(self._transport, answer, f"{method} {path}")
