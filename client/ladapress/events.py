"""Following a job: server-sent events, resumed by number after any cut, and plain polling where streams do not pass.

Every event has a number per job, without gaps, so a reader that reconnects neither misses one nor sees one twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2
from pydantic import ValidationError

from ladapress.errors import LadapressError
from ladapress.transport import Transport, place
from ladapress.types import EventList, Job, JobEvent

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
SILENCE_S = 45.0  # the service sends a comment every 15 s; three missing ones are a dead connection
EMPTY_STREAMS = 3  # so many streams in a row that brought nothing: something on the way buffers or cuts them


def follow(transport: Transport, job_id: str, *, after: int = 0, poll_s: float = 1.0) -> Iterator[JobEvent]:
    """Events of a job above number `after`, as they happen, until the job has ended.

    Raises:
        LadapressError: the job is unknown, or the service stays away longer than the client's patience.
    """
    empty = 0
    while True:
        before = after
        if empty < EMPTY_STREAMS:
            try:
                for event in _stream(transport, job_id, after):
                    after = event.seq
                    yield event
            except httpx2.SSEError:
                empty = EMPTY_STREAMS  # not an event stream at all
            except httpx2.TransportError:
                pass  # cut; what follows finds out how far the job is
        # The state is read before the events: a job that had ended then can have no event after this page.
        ended = get(transport, job_id).status in TERMINAL
        for event in page(transport, job_id, after):
            after = event.seq
            yield event
        if ended:
            return
        empty = 0 if after > before and empty < EMPTY_STREAMS else empty + 1
        if empty:
            time.sleep(poll_s)


def get(transport: Transport, job_id: str) -> Job:
    """The job as it is now."""
    return Job.model_validate(transport.json("GET", place("jobs", job_id)))


def _stream(transport: Transport, job_id: str, after: int) -> Iterator[JobEvent]:
    headers = {"accept": "text/event-stream", "last-event-id": str(after), "cache-control": "no-store"}
    path = place("jobs", job_id, "events")
    with transport.send("GET", path, headers=headers, stream=True, timeout_s=SILENCE_S) as response:
        if response.status_code == httpx2.codes.NO_CONTENT:
            return  # the job has ended and everything was seen
        for message in httpx2.EventSource(response):
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


def page(transport: Transport, job_id: str, after: int) -> Iterator[JobEvent]:
    """Events above number `after` that have happened so far."""
    while True:
        answer = transport.json("GET", place("jobs", job_id, "events"), params={"after": after, "limit": 100})
        page = EventList.model_validate(answer)
        yield from page.data
        if not page.has_more or not page.data:
            return
        after = page.data[-1].seq
