"""Work and its results: `client.jobs` and `client.artifacts`."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ladapress import events, types
from ladapress.download import Moved, fetch, nobody
from ladapress.errors import LadapressError, of_job
from ladapress.transport import Transport, place


class Plans:
    """What a job would give."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def ask(self, request: Mapping[str, Any]) -> types.Plan:
        """The plan as far as it is known: where its status is not "done", ask again.

        Args:
            request: as `types.PlanRequest`; fields that are None are left out.
        """
        return types.Plan.model_validate(
            self._transport.json("POST", "/v1/plans", json=_given(request), repeatable=True)
        )

    def make(self, request: Mapping[str, Any], *, pause_s: float = 0.5) -> types.Plan:
        """`ask` until the plan is done.

        Raises:
            LadapressError: the refusal, or a dry run that did not succeed.
        """
        while (plan := self.ask(request)).status != "done":
            while plan.job_id and (job := events.get(self._transport, plan.job_id)).status != "succeeded":
                if job.status in events.TERMINAL:
                    detail = f"{job.id} is {job.status} and left no profile"
                    raise LadapressError(of_job(job) or LadapressError.local("not_measured", detail).problem)
                time.sleep(pause_s)
            time.sleep(pause_s)
        return plan


class Jobs:
    """Compressions."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        model: str,
        train: str,
        eval: str,  # noqa: A002  # the interface's own word
        idempotency_key: str | None = None,
        **options: Any,
    ) -> types.Job:
        """Start a compression. Sent again after a lost connection, it is still one job.

        Args:
            model: id of a model that is ready.
            train: id of the training rows.
            eval: id of the rows that measure the result.
            idempotency_key: the same key and request give the same job; a random one where None.
            options: the other fields of `types.JobRequest` (preset, recipe, target, metric, seed, ...), and
                `select`, `unlabelled` and `columns` of its `data`. What is left out, the service decides.

        Raises:
            LadapressError: the service's refusal, with the field at fault in `problem.param`.
        """
        data = {"train": train, "eval": eval}
        data |= {field: options.pop(field) for field in ("select", "unlabelled", "columns") if field in options}
        return self.submit({"model": model, "data": data, **options}, idempotency_key=idempotency_key)

    def submit(self, request: Mapping[str, Any], *, idempotency_key: str | None = None) -> types.Job:
        """`create` with the request body as the interface spells it; fields that are None are left out."""
        headers = {"idempotency-key": idempotency_key or uuid.uuid4().hex}
        return types.Job.model_validate(
            self._transport.json("POST", "/v1/jobs", json=_given(request), headers=headers, repeatable=True)
        )

    def get(self, job_id: str) -> types.Job:
        """One job as it is now."""
        return events.get(self._transport, job_id)

    def list(self, *, limit: int = 20, after: str | None = None) -> types.JobList:
        """Newest first; `after` is the last id of the page before."""
        return types.JobList.model_validate(self._transport.page("/v1/jobs", limit, after))

    def cancel(self, job_id: str) -> types.Job:
        """Ask a job to stop; it is `cancelling` until its processes are gone."""
        return types.Job.model_validate(self._transport.json("POST", place("jobs", job_id, "cancel"), repeatable=True))

    def delete(self, job_id: str) -> None:
        """Delete an ended job with its artifacts."""
        self._transport.json("DELETE", place("jobs", job_id))

    def events(self, job_id: str, *, after: int = 0) -> Iterator[types.JobEvent]:
        """What happens to a job, from event number `after` on, until it has ended. Survives cut connections."""
        return events.follow(self._transport, job_id, after=after)

    def wait(
        self,
        job_id: str,
        *,
        timeout_s: float | None = None,
        on_event: Callable[[types.JobEvent], None] | None = None,
    ) -> types.Job:
        """The job when it has ended, however it ended.

        Raises:
            LadapressError: `timeout` after `timeout_s` seconds; the job goes on.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if deadline is None:
            for event in self.events(job_id):
                if on_event is not None:
                    on_event(event)
            return self.get(job_id)
        return self._wait_until(job_id, deadline, on_event)

    def _wait_until(self, job_id: str, deadline: float, on_event: Callable[[types.JobEvent], None] | None) -> types.Job:
        # A stream blocks for as long as nothing happens, so a deadline is held by polling.
        after = 0
        while True:
            job = self.get(job_id)
            for event in events.page(self._transport, job_id, after):
                after = event.seq
                if on_event is not None:
                    on_event(event)
            if job.status in events.TERMINAL:
                return job
            if time.monotonic() >= deadline:
                raise LadapressError.local("timeout", f"{job_id} is still {job.status}", retryable=True)
            time.sleep(min(0.5, max(0.0, deadline - time.monotonic())))


class Artifacts:
    """Delivered models."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, artifact_id: str) -> types.Artifact:
        """One artifact with its files, their sizes and digests."""
        return types.Artifact.model_validate(self._transport.json("GET", place("artifacts", artifact_id)))

    def download(self, artifact_id: str, folder: str | os.PathLike[str], *, moved: Moved = nobody) -> tuple[Path, ...]:
        """Fetch all files into `folder`, each checked by its sha256 before any of them gets its name.

        Raises:
            LadapressError: `damaged_download`; see `ladapress.download.fetch`.
        """
        return fetch(self._transport, self.get(artifact_id), Path(folder), moved)


def _given(request: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _given(value) if isinstance(value, Mapping) else value
        for name, value in request.items()
        if value is not None
    }
