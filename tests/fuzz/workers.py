"""A stand-in for the workers that takes milliseconds, beside a live service: every job goes through."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy.exc import SQLAlchemyError

from jobs import service
from tests.api.results import inspector, publish
from tests.jobs.world import World


@contextmanager
def workers(world: World) -> Iterator[None]:
    """Until the context ends every inspection is good and every second job succeeds."""
    with inspector(world), finisher(world):
        yield


@contextmanager
def finisher(world: World) -> Iterator[None]:
    """A worker that ends what it claims: one job well, one lost, and so on."""
    stop = threading.Event()

    def work() -> None:
        turn = 0
        while not stop.wait(0.05):
            with suppress(SQLAlchemyError):
                held = world.claim("finisher", engine="fuzz")
                if held is None:
                    continue
                turn += 1
                if held.spec.get("dry_run"):
                    with world.db.sessions.begin() as s:
                        service.publish(s, held.job_id, held.fence, None, [])
                elif turn % 2:
                    with suppress(AssertionError):  # cancelled meanwhile
                        publish(world, held)
                else:
                    with world.db.sessions.begin() as s:
                        service.release(s, held.job_id, held.fence, "lost")
            with suppress(SQLAlchemyError):
                world.reconcile()

    thread = threading.Thread(target=work, name="finisher")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
