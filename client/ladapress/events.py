"""Following a job: server-sent events, resumed by number after any cut, and plain polling where streams do not pass.

Every event has a number per job, without gaps, so a reader that reconnects neither misses one nor sees one twice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx2
from pydantic import ValidationError

from ladapress.errors import LadapressError
from ladapress.transport import Transport, place
from ladapress.types import EventList, Job, JobEvent

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
SILENCE_S = 45.0  # the service sends a comment every 15 s; three missing ones are a dead connection
EMPTY_STREAMS = 3  # so many streams in a row that brought nothing: something on the way buffers or cuts them


async def follow(
    transport: Transport, job_id: str, *, after: int = 0, poll_s: float = 1.0
) -> AsyncGenerator[JobEvent, None]:
    """Events of a job above number `after`, as they happen, until the job has ended.

    Raises:
        LadapressError: the job is unknown, or the service stays away longer than the client's patience.
    """
    empty = 0
    while True:
        before = after
        if empty < EMPTY_STREAMS:
            try:
                async with aclosing(_stream(transport, job_id, after)) as events:
                    async for event in events:
                        after = event.seq
                        yield event
            except httpx2.SSEError:
                empty = EMPTY_STREAMS  # not an event stream at all
            except httpx2.TransportError:
                pass  # cut; what follows finds out how far the job is
        # The state is read before the events: a job that had ended then can have no event after this page.
        job = await transport.ask(Job, "GET", place("jobs", job_id))
        async with aclosing(page(transport, job_id, after)) as events:
            async for event in events:
                after = event.seq
                yield event
        if job.status in TERMINAL:
            return
        empty = 0 if after > before and empty < EMPTY_STREAMS else empty + 1
        if empty:
            await transport.port.sleep(poll_s)


async def _stream(transport: Transport, job_id: str, after: int) -> AsyncGenerator[JobEvent, None]:
    headers = {"accept": "text/event-stream", "last-event-id": str(after), "cache-control": "no-store"}
    path = place("jobs", job_id, "events")
    async with transport.send("GET", path, headers=headers, stream=True, timeout_s=SILENCE_S) as response:
        if response.status_code == httpx2.codes.NO_CONTENT:
            return  # the job has ended and everything was seen
        async with aclosing(transport.port.messages(response)) as messages:
            async for message in messages:
                if not message.data:
                    continue  # only says how soon to reconnect
                try:
                    event = JobEvent.model_validate_json(message.data)
                except ValidationError:
                    raise LadapressError.local(
                        "protocol", f"{path} sent an event that is none: {message.data[:200]}"
                    ) from None
                if event.seq > after:
                    after = event.seq
                    yield event


async def page(transport: Transport, job_id: str, after: int) -> AsyncGenerator[JobEvent, None]:
    """Events above number `after` that have happened so far."""
    while True:
        query = {"after": after, "limit": 100}
        page = await transport.ask(EventList, "GET", place("jobs", job_id, "events"), params=query)
        for event in page.data:
            yield event
        if not page.has_more or not page.data:
            return
        after = page.data[-1].seq
