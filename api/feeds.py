"""The newest events of the jobs that somebody follows: one look at the database for all readers of this process.

Two hundred streams that each asked for themselves, and wrote out the same few rows, would keep a core busy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio.to_thread import run_sync
from fastapi.sse import format_sse_event
from sqlalchemy.exc import SQLAlchemyError

from api import views
from jobs import service
from jobs.db import Database

if TYPE_CHECKING:
    from api.context import Context

LOOK_S = 0.25
KEPT = 200  # events of a job; who is further behind reads the table


class Line(NamedTuple):
    """An event as it goes over the wire; `last`: nothing can follow it."""

    seq: int
    last: bool
    text: bytes


def line(row: service.Told) -> Line:
    """The event of a row."""
    data = views.event(row).model_dump_json()
    return Line(row.seq, views.is_last(row), format_sse_event(event=row.type, id=str(row.seq), data_str=data))


class Feed:
    """One job's newest events. Used by the event loop's thread alone."""

    def __init__(self) -> None:
        self.seq: int | None = None  # the last number that is known; None before the first look
        self.over = False  # the job is gone, or the database away: readers begin anew
        self.readers = 0
        self._rows: deque[Line] = deque(maxlen=KEPT)
        self._changed = anyio.Event()

    def after(self, seq: int) -> Sequence[Line] | None:
        """The events above `seq`, none where there is nothing new; None where they are to be read from the table.

        Before the first look nothing is new: who begins has just read the table, and is told of the look.
        """
        if self.seq is None or seq >= self.seq:
            return ()
        if not self._rows or self._rows[0].seq > seq + 1:
            return None
        return [row for row in self._rows if row.seq > seq]

    def more(self, seq: int) -> bool:
        """Whether there is an event above `seq`, as far as is known."""
        return self.seq is not None and self.seq > seq

    async def change(self) -> None:
        """Return when there is more, or it is over."""
        await self._changed.wait()

    def tell(self) -> None:
        """Wake who waits."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def add(self, head: int, rows: Sequence[Line]) -> None:
        """What a look found."""
        known = self.seq
        self._rows.extend(rows)
        self.seq = rows[-1].seq if rows else head
        if self.seq != known:
            self.tell()

    def end(self) -> None:
        """Let readers go."""
        self.over = True
        self.tell()


class Feeds:
    """Every job that is followed here."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feeds: dict[str, Feed] = {}

    @contextmanager
    def follow(self, job_id: str) -> Iterator[Feed]:
        """The feed of a job, looked after as long as somebody is in this block."""
        feed = self._feeds.setdefault(job_id, Feed())
        feed.readers += 1
        try:
            yield feed
        finally:
            feed.readers -= 1
            if not feed.readers and self._feeds.get(job_id) is feed:
                del self._feeds[job_id]

    async def run(self, context: Context) -> None:
        """Look, again and again, until cancelled."""
        while True:
            await anyio.sleep(LOOK_S)
            if context.closing:
                for feed in self._feeds.values():
                    feed.tell()
            elif self._feeds:
                await self._look()

    async def _look(self) -> None:
        asked = dict(self._feeds)
        known = {job_id: feed.seq for job_id, feed in asked.items()}
        try:
            found = await run_sync(self._read, known)
        except SQLAlchemyError:
            found = {}
        for job_id, feed in asked.items():
            if job_id in found:
                feed.add(*found[job_id])
            else:
                if self._feeds.get(job_id) is feed:
                    del self._feeds[job_id]
                feed.end()

    def _read(self, known: Mapping[str, int | None]) -> dict[str, tuple[int, Sequence[Line]]]:
        with self._database.readers() as s:
            found = service.news(s, known, KEPT)
        return {job_id: (head, [line(row) for row in rows]) for job_id, (head, rows) in found.items()}
