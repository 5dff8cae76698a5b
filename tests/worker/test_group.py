"""One child and its parent, without a database between them."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker.scene import ENGINE, members, until
from worker import protocol
from worker.group import Child

# A worker reduced to its child: gives it an order, says its group, and waits to be killed.
PARENT = """
import json, sys, time
from pathlib import Path
from worker.group import Child

child = Child([*json.loads(sys.argv[1]), "--kind", "compress"], Path(sys.argv[2]), 1)
while not child.read(1):
    pass
train = Path(sys.argv[2], "in", "train.csv")
train.write_text(sys.argv[3])
child.order({"kind": "compress", "spec": {"train": str(train), "out": str(Path(sys.argv[2], "out"))}})
while not child.read(1):
    pass
print(child.pid, flush=True)
time.sleep(600)
"""


def order(child: Child, **wish: object) -> None:
    """Wait until a child is warm, then make it do something."""
    while not any(isinstance(event, protocol.Ready) for event in child.read(1)):
        assert child.alive(), child.log_tail()
    (child.folder / "in" / "train.csv").write_text(json.dumps(wish))
    paths = {"train": str(child.folder / "in" / "train.csv"), "out": str(child.folder / "out")}
    child.order({"kind": "compress", "spec": paths})


@pytest.mark.parametrize("wish", [{"steps": 1000}, {"stuck": True}], ids=["busy", "stuck"])
def test_a_group_ends_with_its_worker(tmp_path: Path, wish: dict[str, object]) -> None:
    """kill -9 of the worker takes the whole group along, also programs of an engine that cannot run any thread."""
    said = json.dumps({**wish, "spawn": True, "step_s": 0.1})
    arguments = [sys.executable, "-c", PARENT, json.dumps(ENGINE), str(tmp_path / "child"), said]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as parent:
        assert parent.stdout is not None
        group = int(parent.stdout.readline())
        until(lambda: len(members(group)) == 3, 10)  # keeper, engine, the engine's program
        parent.kill()
        until(lambda: not members(group), 5)


def test_what_an_engine_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    """A worker that is killed after its engine's end finds nobody to tell the engine's programs: they are gone."""
    said = json.dumps({"steps": 1, "spawn": True})
    arguments = [sys.executable, "-c", PARENT, json.dumps(ENGINE), str(tmp_path / "child"), said]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as parent:
        assert parent.stdout is not None
        group = int(parent.stdout.readline())
        try:
            until((tmp_path / "child/out/0/manifest.json").exists, 10)
            until(lambda: not members(group), 5)
            assert parent.poll() is None
        finally:
            parent.kill()


def test_a_group_that_ignores_term_is_killed(tmp_path: Path) -> None:
    """After the grace comes KILL, for everything in the group."""
    child = Child([*ENGINE, "--kind", "compress"], tmp_path / "child", 1)
    order(child, stuck=True, spawn=True, deaf=True)
    until(lambda: len(members(child.pid)) == 3, 10)
    assert child.end(grace_s=0.3) == 128 + signal.SIGKILL
    until(lambda: not members(child.pid), 5)
    child.dispose()


def test_a_log_without_end_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its limit the log begins anew; the end of it, which a problem quotes, is the newest."""
    monkeypatch.setattr("worker.group.MAX_LOG_BYTES", 1000)
    child = Child([*ENGINE, "--kind", "compress"], tmp_path / "child", 1)
    order(child, babble=True, steps=1000, step_s=0.1)
    until(lambda: len(child.log_tail()) > 4000, 10)
    child.trim_log()
    assert child.log_tail() == ""
    child.dispose()
    assert not child.folder.exists()


def test_a_line_without_end_ends_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that writes an endless line is treated as one that has closed its pipe."""
    monkeypatch.setattr("worker.protocol.MAX_LINE_BYTES", 1000)
    child = Child([*ENGINE, "--kind", "compress"], tmp_path / "child", 1)
    order(child, endless=True)
    until(lambda: not child.read(0.1) and child.finished(), 10)
    child.dispose()
