"""The events of a job: as JSON pages, or as a stream that follows them (`Accept: text/event-stream`).

Both read the event table, whose numbers have no gap. The number is the stream's id, so a client that reconnects with
`Last-Event-ID` misses nothing and sees nothing twice, whichever API process it meets.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from itertools import pairwise
from typing import Annotated, NamedTuple

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.routing import APIRoute
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlalchemy.exc import SQLAlchemyError
from starlette.routing import Match
from starlette.types import Scope as AsgiScope
from starlette.types import Send

from api import schemas_events, views
from api.auth import Reader, still_welcome
from api.context import Context, Ctx
from api.errors import StreamEnded, responses
from api.feeds import LOOK_S, Line, line
from api.paging import Id
from jobs import service, tables
from jobs.problem import Refused, refuse
from jobs.scope import Scope, get
from jobs.states import TERMINAL

router = APIRouter(tags=["jobs"])
IDLE_S = 15.0  # without anything new, until the key is looked at again
BATCH = 200
RECHECK_S = 60.0  # a key that is revoked ends its streams after this time
RECONNECT_MS = 1000
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nor may a proxy keep events back
INT64 = 2**63
PATH = "/v1/jobs/{job_id}/events"

After = Annotated[int, Query(ge=0, lt=INT64, description="Only events with a greater sequence number.")]
LastEventId = Annotated[str | None, Header(description="Of the stream: the last event that was seen.")]


@router.get(
    PATH,
    response_model=schemas_events.EventList,
    responses={
        200: {
            "description": "A page of events, or the stream of all events to the job's end.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "Stream only: the job has ended and every event was seen. Do not reconnect."},
        **responses(400, 404, 422),
    },
)
def list_events(
    job_id: Id,
    context: Ctx,
    scope: Reader,
    limit: Annotated[int, Query(ge=1, le=1000, description="Events of one page.")] = 100,
    after: After = 0,
    last_event_id: LastEventId = None,
) -> Response:
    """Events of a job, oldest first. With `Accept: text/event-stream`: each as it happens, until the job's end."""
    rows = _read(context, scope, job_id, max(after, sequence(last_event_id)), limit + 1)
    shown = rows[:limit]
    page = schemas_events.EventList(
        data=[views.event(row) for row in shown],
        has_more=len(rows) > limit,
        first_id=shown[0].seq if shown else None,
        last_id=shown[-1].seq if shown else None,
        gaps=views.gaps([row.seq for row in shown], max(after, sequence(last_event_id))),
    )
    return Response(page.model_dump_json(), media_type="application/json")  # as it is: FastAPI would check it again


@router.get("/v1/jobs/{job_id}/metrics", responses=responses(404, 422))
def list_metrics(
    job_id: Id,
    context: Ctx,
    scope: Reader,
    name: Annotated[str | None, Query(max_length=80, description="Only this curve.")] = None,
) -> schemas_events.JobCurveList:
    """The curves of a job so far: loss, agreement and what else its methods tell while they train."""
    with context.database.readers() as s:
        rows = service.metrics(s, scope, job_id)
    curves = views.curves(rows)
    return schemas_events.JobCurveList(data=[curve for curve in curves if name in (None, curve.name)])


class Start(NamedTuple):
    """The number to begin after, and the first events above it."""

    after: int
    lines: Sequence[Line]


def start(job_id: Id, context: Ctx, scope: Reader, after: After = 0, last_event_id: LastEventId = None) -> Start:
    """Where to begin. Runs before the first byte is sent, so that refusals are problems."""
    begin = max(after, sequence(last_event_id))
    with context.database.readers() as s:
        job = get(s, scope, tables.Job, job_id)
        if job.state in TERMINAL and begin >= job.event_seq:
            raise StreamEnded
        rows = service.events_after(s, scope, job_id, after=begin, limit=BATCH)
    return Start(begin, [line(row) for row in rows])


async def stream_events(
    job_id: Id, request: Request, context: Ctx, scope: Reader, begin: Annotated[Start, Depends(start)]
) -> Stream:
    """Every event after `begin`, as it is committed, to the one that ends the job; `gap` where some have gone."""
    return Stream(_follow(job_id, request, context, scope, begin), headers=STREAM_HEADERS)


class Stream(StreamingResponse):
    """Server-sent events. Not FastAPI's own: its two tasks and two queues a stream took most of a core for 200."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        """As its parent; the generator ends with it, not when the collector finds it."""
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().stream_response(send)


async def _follow(job_id: str, request: Request, context: Context, scope: Scope, start: Start) -> AsyncIterator[bytes]:
    checked = time.monotonic()
    yield format_sse_event(retry=RECONNECT_MS)
    begin, first = start
    with context.feeds.follow(job_id) as feed:
        while not context.closing:
            lines, first = first or feed.after(begin), ()
            if lines is None:
                try:
                    lines = await run_sync(_lines, context, scope, job_id, begin)
                except (Refused, SQLAlchemyError):
                    return
            if lines:
                yield b"".join(_with_gaps(lines, begin))
                begin = lines[-1].seq
                if lines[-1].last:
                    return
            if feed.over:
                return  # deleted, or the database is away: whoever reconnects gets that as a problem
            if time.monotonic() - checked > RECHECK_S:
                checked = time.monotonic()
                if not await run_sync(still_welcome, request, context):
                    return
            if not lines:
                with anyio.move_on_after(LOOK_S if feed.more(begin) else IDLE_S) as waited:  # more came meanwhile
                    await feed.change()
                if waited.cancelled_caught:
                    yield KEEPALIVE_COMMENT


def _lines(context: Context, scope: Scope, job_id: str, begin: int) -> list[Line]:
    return [line(row) for row in _read(context, scope, job_id, begin, BATCH)]


def _with_gaps(lines: Sequence[Line], begin: int) -> Iterator[bytes]:
    """What is told of events that are gone has no id: whoever reconnects is told again."""
    for before, one in pairwise([Line(begin, False, b""), *lines]):
        for gap in views.gaps([one.seq], before.seq):
            yield format_sse_event(event="gap", data_str=gap.model_dump_json())
        yield one.text


class StreamRoute(APIRoute):
    """Takes a request only where it accepts an event stream; others go on to the JSON route of the same path."""

    def matches(self, scope: AsgiScope) -> tuple[Match, AsgiScope]:
        match, child = super().matches(scope)
        accepted = [value for name, value in scope.get("headers", ()) if name == b"accept"]
        wanted = match is Match.FULL and any(b"text/event-stream" in value for value in accepted)
        return (match, child) if wanted else (Match.NONE, {})


def install_stream(app: FastAPI) -> None:
    """Put the stream before the JSON route. On the app itself: an included router would not ask `matches`."""
    app.router.add_api_route(
        PATH,
        stream_events,
        methods=["GET"],
        response_class=Stream,
        include_in_schema=False,
        route_class_override=StreamRoute,
    )


def sequence(last_event_id: str | None) -> int:
    """The number in `Last-Event-ID`; 0 where there is none. Raises Refused (header_invalid)."""
    if not last_event_id:
        return 0
    if last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) < 20:
        number = int(last_event_id)
        if number < INT64:
            return number
    raise refuse("header_invalid", "Last-Event-ID: legal is the id of an event, a number", param="header.last-event-id")


def _read(context: Context, scope: Scope, job_id: str, after: int, limit: int) -> Sequence[service.Told]:
    with context.database.readers() as s:
        return service.events_after(s, scope, job_id, after=after, limit=limit)
