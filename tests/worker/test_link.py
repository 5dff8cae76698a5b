"""The thread between a run and the database: what it writes, and what it does when the database is away."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from jobs.db import Database
from jobs.service import Control
from tests.worker.scene import until
from worker import protocol
from worker.group import Child
from worker.link import Events, Link
from worker.watch import End, watch

GO_ON = threading.Event()


@dataclass
class Tables:
    """A database that is there or away, and keeps what it is told."""

    away: bool = False
    control: Control | None = field(default_factory=lambda: Control(cancel=False, pause=False))
    events: Events = field(default_factory=list)
    writes: int = 0

    @contextmanager
    def begin(self) -> Iterator[Session]:
        if self.away:
            raise OperationalError("connect", None, ConnectionError())
        yield cast("Session", None)

    def renew(self, _: Session) -> Control | None:
        return self.control

    def record(self, _: Session, events: Events) -> bool:
        self.writes += 1
        self.events += events
        return True

    def link(self, lease_s: float) -> Link:
        class Sessions:
            begin = self.begin
            __call__ = staticmethod(self.begin)

        db = Database(cast("Any", None), cast("Any", Sessions()), cast("Any", Sessions()))
        return Link(db, lease_s, renew=self.renew, look=self.renew, record=self.record)


class Silent:
    """A child that lives and says nothing."""

    def alive(self) -> bool:
        return True

    def finished(self) -> bool:
        return False

    def trim_log(self) -> None: ...

    def read(self, timeout_s: float) -> list[protocol.Event]:
        time.sleep(timeout_s)
        return []


def outcome(link: Link, lease_s: float) -> protocol.Last | End:
    return watch(cast("Child", Silent()), link, GO_ON, lease_s=lease_s, runtime_s=None)


def progress(fraction: float, step: int = 0) -> protocol.Progress:
    return protocol.Progress(type="progress", stage="distill", fraction=fraction, step=step, steps=100)


def test_a_database_that_is_away_for_a_lease_ends_the_run() -> None:
    """Somebody else may hold the job by then. A shorter outage ends nothing, and loses no event."""
    tables = Tables()
    link = tables.link(lease_s=2)
    link.start()
    tables.away = True
    link.add(protocol.Warned(type="warning", code="c", detail="said during the outage"))
    time.sleep(1)
    tables.away = False
    until(lambda: bool(tables.events), 10)
    assert tables.events == [("warning", {"code": "c", "detail": "said during the outage"})]
    assert not link.lost
    tables.away = True
    assert outcome(link, 2) is End.STALE
    link.stop()


def test_a_lost_fence_ends_the_run() -> None:
    """When the table says that the job is not ours any more, the run ends and nothing more is written."""
    tables = Tables()
    link = tables.link(lease_s=60)
    link.start()
    tables.control = None
    assert outcome(link, 60) is End.STALE
    link.add(progress(0.5))
    link.stop()
    assert tables.events == []


def test_wishes_arrive_between_heartbeats() -> None:
    """Cancel and pause are seen long before the next heartbeat of a long lease is due."""
    for wish, end in (
        (Control(cancel=True, pause=False), End.CANCELLED),
        (Control(cancel=False, pause=True), End.PAUSED),
    ):
        tables = Tables(control=wish)
        link = tables.link(lease_s=3600)
        link.start()
        assert outcome(link, 3600) is end
        link.stop()


def test_progress_is_thinned_out_and_never_falls() -> None:
    """Thousands of steps cost a few writes; the newest one is written last, and no fraction is below an earlier one."""
    tables = Tables()
    link = tables.link(lease_s=60)
    link.start()
    link.add(protocol.Stage(type="stage", stage="distill"))
    for step in range(2000):
        link.add(progress(0.9 if step == 100 else step / 4000, step))
        if step % 500 == 0:
            time.sleep(0.3)
    link.stop()
    told = [data for kind, data in tables.events if kind == "progress"]
    assert told[-1]["step"] == 1999
    assert [data["fraction"] for data in told] == sorted(data["fraction"] for data in told)
    assert told[-1]["fraction"] == 0.9
    assert tables.writes <= 6
    assert tables.events[0] == ("stage", {"stage": "distill"})
