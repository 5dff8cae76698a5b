"""A stand-in for the workers that takes milliseconds, beside a live service: every job goes through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle

from sqlalchemy.exc import SQLAlchemyError

from jobs import service
from tests.api.results import in_turns, inspector, publish
from tests.jobs.world import World


@contextmanager
def workers(world: World) -> Iterator[None]:
    """Until the context ends every inspection is good and every second job succeeds."""
    with inspector(world), finisher(world):
        yield


@contextmanager
def finisher(world: World) -> Iterator[None]:
    """A worker that ends what it claims: one job well, one lost, and so on."""
    ends = cycle(("well", "lost"))

    def turn() -> None:
        with suppress(SQLAlchemyError):
            held = world.claim("finisher", engine="fuzz")
            if held is None:
                return
            end = next(ends)
            if held.spec.get("dry_run"):
                with world.db.sessions.begin() as s:
                    service.publish(s, held.job_id, held.fence, None, [])
            elif end == "well":
                with suppress(AssertionError):  # cancelled meanwhile
                    publish(world, held)
            else:
                with world.db.sessions.begin() as s:
                    service.release(s, held.job_id, held.fence, "lost")
        with suppress(SQLAlchemyError):
            world.reconcile()

    with in_turns("finisher", 0.05, turn):
        yield
