"""A job in hand: its fields as they were last seen, and what can be done with it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from pydantic import ConfigDict, PrivateAttr

from ladapress import events, outcome, types
from ladapress.download import fetch
from ladapress.errors import LadapressError
from ladapress.modes import Mode, Moded, operation, stream
from ladapress.resource import Moved, nobody
from ladapress.transport import Transport, parsed, place

if TYPE_CHECKING:
    from ladapress.jobs import Jobs


class JobHandle(types.Job, Moded[Mode], Generic[Mode]):
    """`types.Job` with calls. They bring the fields up to date, here in place, and return this handle."""

    model_config = ConfigDict(ignored_types=(operation, stream))
    _transport: Transport = PrivateAttr()

    @classmethod
    def of(cls, transport: Transport, answer: Any, what: str) -> JobHandle[Mode]:
        """A handle on the job that the service has just told."""
        handle = parsed(cls, answer, what)
        handle._transport = transport
        return handle

    @operation
    async def refresh(self) -> JobHandle[Mode]:
        """The job as it is now."""
        return await self._now("GET", place("jobs", self.id))

    @operation
    async def wait(
        self, *, timeout_s: float | None = None, on_event: Callable[[types.JobEvent], None] | None = None
    ) -> JobHandle[Mode]:
        """The job when it has ended, however it ended; see `Jobs.wait`."""
        return self._seen(await self._jobs.ended(self.id, timeout_s, on_event))

    @stream
    async def events(self, *, after: int = 0) -> AsyncGenerator[types.JobEvent, None]:
        """What happens to the job, from event number `after` on, until it has ended; see `Jobs.events`."""
        async for event in events.follow(self._transport, self.id, after=after):
            yield event

    @operation
    async def cancel(self) -> JobHandle[Mode]:
        """Ask it to stop; it is `cancelling` until its processes are gone."""
        return await self._now("POST", place("jobs", self.id, "cancel"))

    @operation
    async def pause(self) -> JobHandle[Mode]:
        """Ask it to give its worker back; `resume` goes on from the last checkpoint."""
        return await self._now("POST", place("jobs", self.id, "pause"))

    @operation
    async def resume(self) -> JobHandle[Mode]:
        """Queue a paused job again."""
        return await self._now("POST", place("jobs", self.id, "resume"))

    @operation
    async def metrics(self, *, name: str | None = None) -> types.JobCurveList:
        """The curves of the job so far; see `Jobs.metrics`."""
        return await self._jobs.curves(self.id, name)

    @operation
    async def retry(
        self,
        *,
        limits: Mapping[str, int] | types.Limits | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> JobHandle[Mode]:
        """Do the failed or cancelled job again, as a handle of its own; see `Jobs.retry`."""
        return await self._jobs.again(self.id, limits, metadata, idempotency_key)

    @operation
    async def delete(self) -> None:
        """Delete the ended job with its artifacts."""
        await self._transport.delete(place("jobs", self.id))

    @operation
    async def download(self, folder: str | os.PathLike[str], *, moved: Moved = nobody) -> tuple[Path, ...]:
        """Fetch what the job delivered, each file checked; returns the folder of each point.

        One point lies in `folder` itself, several in `folder/0`, `folder/1` ...

        Raises:
            LadapressError: `nothing_to_download`; `damaged_download`, see `ladapress.download.fetch`.
        """
        if not self.points:
            raise LadapressError.local("nothing_to_download", f"{self.id} is {self.status} and has no artifact")
        folders = outcome.point_folders(self, Path(folder))
        for point, where in zip(self.points, folders, strict=True):
            artifact = await self._transport.ask(types.Artifact, "GET", place("artifacts", point.artifact_id))
            await fetch(self._transport, artifact, where, moved)
        return tuple(folders)

    @property
    def _jobs(self) -> Jobs[Mode]:
        from ladapress.jobs import Jobs  # noqa: PLC0415  # jobs makes handles, handles ask jobs

        return Jobs(self._transport)

    async def _now(self, method: str, path: str) -> JobHandle[Mode]:
        return self._seen(await self._transport.ask(types.Job, method, path))

    def _seen(self, job: types.Job) -> JobHandle[Mode]:
        self.__dict__.update(job.__dict__)
        return self
