"""Children that are forked: they are the worker's own, and neither a forge's death nor the worker's end leaves any."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.settings import Settings
from tests.worker.scene import members, until
from worker import kernel, protocol
from worker.pool import Pool
from worker.roster import Roster

GO_ON = threading.Event()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """As a worker has it for inspections, with the real engine."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("forge"), threads=1)
    made = Pool("inspect", 1, Roster(settings.work_dir), settings)
    made.start()
    yield made
    made.close()


def forge(pool: Pool) -> int:
    """The process that makes its children."""
    assert pool._forge is not None
    return pool._forge.pid


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_child_is_the_workers_own_and_does_its_order(pool: Pool) -> None:
    """It leads a group, has its own folder and walls, says what it found, and is gone with its slot."""
    with pool.slot(GO_ON) as slot:
        assert slot is not None
        child = slot.begin()
        assert parent(child.pid) == os.getpid()
        assert os.getpgid(child.pid) == child.pid
        (engine,) = [pid for pid in members(child.pid) if pid != child.pid]
        assert (Path(f"/proc/{engine}/cwd")).resolve() == child.folder.resolve()
        environment = Path(f"/proc/{engine}/status").read_text()
        assert "NoNewPrivs:\t1" in environment
        assert pool.files_closed
        (child.folder / "in" / "train.csv").write_text("text,label\n")
        paths = {name: str(child.folder / "in" / name) for name in ("model", "train", "eval")}
        (child.folder / "in" / "model").mkdir()
        spec = {**paths, "select": None, "unlabelled": None, "columns": {}, "formats": {}, "task": None}
        child.order({"kind": "inspect", "spec": {**spec, "metric": "accuracy"}})
        said: list[protocol.Event] = []
        until(lambda: bool(said.extend(child.read(0.2)) or said), 60)
        assert isinstance(said[0], protocol.Verdict)
        assert said[0].verdict.error is not None
        assert said[0].verdict.error.code == "model_invalid"
        assert [one.code for one in said[0].verdict.findings] == ["model_invalid"]
    assert not members(child.pid)


def test_children_are_of_one_forge_until_it_dies(pool: Pool) -> None:
    """A dead one is replaced, and nobody waits in vain."""
    first = forge(pool)
    with pool.slot(GO_ON) as slot:
        assert slot is not None
        slot.begin()
    until(pool.ready, 60)
    assert forge(pool) == first
    os.kill(first, signal.SIGKILL)
    for _ in range(2):
        with pool.slot(GO_ON) as slot:
            assert slot is not None
            slot.begin()
    until(pool.ready, 60)
    assert forge(pool) != first


def test_nothing_is_left_of_a_pool_that_closed(tmp_path: Path) -> None:
    """Forge and spare."""
    settings = Settings(data_dir=tmp_path, threads=1)
    made = Pool("inspect", 1, Roster(settings.work_dir), settings)
    made.start()
    until(made.ready, 60)
    maker = forge(made)
    with made.slot(GO_ON) as slot:
        assert slot is not None
        spare = slot.child.pid
    made.close()
    assert not members(maker)
    assert not members(spare)
    assert kernel.process_start(maker) is None
