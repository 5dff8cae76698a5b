"""The pool of warm children: what it keeps ready, and what it does when a child dies before it has work."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.settings import Settings
from tests.worker.scene import ENGINE, members, until
from worker.pool import Pool
from worker.roster import Roster

GO_ON = threading.Event()


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    settings = Settings(data_dir=tmp_path, threads=1)
    made = Pool("compress", 2, Roster(settings.work_dir), settings, ENGINE)
    made.start()
    yield made
    made.close()


def test_a_child_without_work_stays_the_spare(pool: Pool) -> None:
    """A slot that was left without beginning hands the same warm child to the next."""
    with pool.slot(GO_ON) as first:
        assert first is not None
    with pool.slot(GO_ON) as second:
        assert second is not None
        assert second.child is first.child


def test_a_used_child_is_never_used_again(pool: Pool) -> None:
    """One child per job: after a slot has begun its child ends, and its folder goes."""
    with pool.slot(GO_ON) as first:
        assert first is not None
        used = first.begin()
    until(lambda: not members(used.pid), 5)
    assert not used.folder.exists()
    with pool.slot(GO_ON) as second:
        assert second is not None
        assert second.child is not used


def test_slots_are_a_limit(pool: Pool) -> None:
    """With all slots taken nobody gets another, although a spare is warm."""
    with pool.slot(GO_ON) as first:
        assert first is not None
        first.begin()
        with pool.slot(GO_ON) as second:
            assert second is not None
            second.begin()
            until(pool.ready, 30)
            assert not pool.free()
            with pool.slot(GO_ON, wait=False) as third:
                assert third is None
    assert pool.free()


def test_a_dead_spare_is_replaced(pool: Pool) -> None:
    """A spare that dies while it waits is noticed and replaced before anybody gets it."""
    with pool.slot(GO_ON) as slot:
        assert slot is not None
        dead = slot.child
    os.killpg(dead.pid, signal.SIGKILL)
    until(lambda: not dead.alive(), 10)
    with pool.slot(GO_ON) as slot:
        assert slot is not None
        assert slot.child is not dead
        assert slot.child.alive()


def test_nobody_waits_for_a_pool_that_stops(pool: Pool) -> None:
    """A drain ends the wait for a slot."""
    stop = threading.Event()
    stop.set()
    with pool.slot(stop) as slot:
        assert slot is None


def test_closing_ends_every_group(pool: Pool) -> None:
    """The spare and those at work end with the pool."""
    with pool.slot(GO_ON) as slot:
        assert slot is not None
        child = slot.begin()
        until(pool.ready, 30)
        pool.close()
        until(lambda: not members(child.pid), 5)
    assert not pool.ready()


def test_children_that_never_warm_up_are_not_started_in_a_rush(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken installation is said, with the child's own words, and tried ever more slowly."""
    settings = Settings(data_dir=tmp_path, threads=1)
    tries = tmp_path / "tries"
    broken = f"open({str(tries)!r}, 'a').write('x'); raise SystemExit('no torch here')"
    pool = Pool("compress", 1, Roster(settings.work_dir), settings, (sys.executable, "-I", "-c", broken))
    pool.start()
    until(lambda: "no torch here" in caplog.text, 30)
    with pool.slot(GO_ON, wait=False) as slot:
        assert slot is None
    until(lambda: caplog.text.count("no torch here") == 2, 30)
    pool.close()
    assert len(tries.read_text()) <= 3
