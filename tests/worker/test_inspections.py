"""One inspection in its limited child: whatever the files do to it, there is a verdict, and only one try."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import select

from core.findings import found
from jobs.states import State
from jobs.tables import Inspection, Job
from tests.worker.conftest import MakeScene
from tests.worker.scene import ENGINE, Scene, until
from worker import inspections
from worker.node import Node


@pytest.fixture(scope="module")
def scene(make_scene: MakeScene) -> Iterator[Scene]:
    """A scene with an interactive slot alone, in this process."""
    made = make_scene("embedded", lease_s=10, inspect_cpu_s=1, inspect_memory_bytes=1 << 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspections, "WALL_PER_CPU", 60)  # a busy machine may need long for one CPU-second
        node = Node(made.settings, ("inspection",), ENGINE)
        node.start()
        node.poll(0.1, wait=True)
        yield made
        node.close()


def refused(scene: Scene, job: Job) -> tuple[str, str, int]:
    """Code and sentence of the job's problem, and how often its files were inspected."""
    assert job.state is State.FAILED
    assert job.error is not None
    with scene.db.readers() as s:
        tries = s.scalars(select(Inspection.attempt).where(Inspection.id == job.inspection_id)).one()
    return job.error["code"], job.error["detail"], tries


def test_a_good_verdict_lets_the_job_go(scene: Scene) -> None:
    """After the inspection the job may be claimed."""
    job_id = scene.submit()
    assert not scene.job(job_id).claimable
    scene.wait_claimable(job_id)


@pytest.mark.parametrize(
    ("wish", "code", "says"),
    [
        ({"eat_bytes": 4 << 30}, "data_invalid", "bytes of memory"),
        ({"busy_s": 60}, "data_invalid", "CPU-seconds"),
        ({"crash": True}, "model_invalid", "exit code 139"),
    ],
)
def test_what_breaks_the_child_is_refused_once(scene: Scene, wish: dict[str, object], code: str, says: str) -> None:
    """Memory, time, a crash: the job fails with a typed problem after one try, and the next one is served."""
    found, detail, tries = refused(scene, scene.wait(scene.submit(**wish)))
    assert (found, tries) == (code, 1)
    assert says in detail
    scene.wait_claimable(scene.submit())


PERMUTED = found("labels_permuted", "0 (no) -> 1 (yes)", "/data/train").model_dump(mode="json")
SAMPLED = found("teacher_sampled", "right on 90 %", "/model").model_dump(mode="json")


def told(scene: Scene, inspection: str) -> tuple[bool | None, list[str]]:
    """Whether its verdict is a good one, and the codes of its findings."""
    with scene.db.readers() as s:
        verdict = s.get_one(Inspection, inspection).verdict or {}
    return verdict.get("ok"), [one["code"] for one in verdict.get("findings", ())]


def test_what_the_teacher_says_comes_after_the_verdict(scene: Scene) -> None:
    """A sample that shows labels in another order takes a good verdict back."""
    assert sampled(scene, [SAMPLED]) == (True, ["teacher_sampled"])
    assert sampled(scene, [PERMUTED, SAMPLED]) == (False, ["labels_permuted", "teacher_sampled"])


def sampled(scene: Scene, found: list[dict[str, Any]]) -> tuple[bool | None, list[str]]:
    """What is told after a sample; asked again where one gave way to what another test still has in the queue."""
    for _ in range(5):
        asked = scene.ask(sampled=found)
        with suppress(AssertionError):
            until(lambda asked=asked: bool(told(scene, asked)[1]), 12)  # type: ignore[misc]
            return told(scene, asked)
    raise AssertionError("no sample came to its end")


def test_a_sample_gives_way_to_who_waits(scene: Scene) -> None:
    """It would take ten minutes; the next inspection gets the slot at once, and the first keeps its verdict."""
    slow = scene.ask(sampled=[SAMPLED], samples_s=600)
    scene.wait_claimable(scene.submit())
    assert told(scene, slow) == (True, [])
