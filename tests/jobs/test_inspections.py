"""What an inspection found reaches those who asked and those who submit."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from core.findings import Finding, found
from jobs import service
from jobs.problem import Refused
from jobs.tables import Event, Inspection
from tests.jobs.world import BAD, GOOD, World

NOTE, ODD = found("teacher_not_sampled", "not yet", "/model"), found("rows_few", "train: 9 rows", "/data/train")
PERMUTED = found("labels_permuted", "0 (a) -> 1 (b)", "/data/train")


def good(*findings: Finding) -> dict[str, Any]:
    return {**GOOD, "findings": [one.model_dump(mode="json") for one in findings]}


def warnings(world: World, job_id: str) -> list[str]:
    with world.db.readers() as s:
        told = s.scalars(select(Event).where(Event.job_id == job_id, Event.type == "warning").order_by(Event.seq))
        return [event.data["code"] for event in told]


def verdict(world: World, inspection: str) -> dict[str, Any]:
    with world.db.readers() as s:
        return dict(s.get_one(Inspection, inspection).verdict or {})


def test_warnings_are_told_to_jobs_submitted_before_and_after_the_verdict(world: World) -> None:
    """Once each; notes are not."""
    request = world.request()
    early = world.submit(request)
    world.judge(good(ODD, NOTE))
    late = world.submit(request)
    assert warnings(world, early.id) == warnings(world, late.id) == ["rows_few"]


def test_an_error_that_somebody_else_wrote_is_a_finding_too(world: World) -> None:
    """A worker that lost its child, or the reconciler, knows of an error only."""
    world.submit()
    assert [one["code"] for one in verdict(world, world.judge(BAD))["findings"]] == ["data_invalid"]


def test_a_sample_is_added_to_the_verdict_that_it_belongs_to(world: World) -> None:
    """It takes the place of the note that there was none; another fence changes nothing."""
    world.submit()
    inspection = world.judge(good(ODD, NOTE))
    with world.db.sessions.begin() as s:
        assert not service.add_findings(s, inspection, 7, [PERMUTED])
        assert service.add_findings(s, inspection, 1, [found("teacher_sampled", "right", "/model")])
    kept = verdict(world, inspection)
    assert kept["ok"]
    assert [one["code"] for one in kept["findings"]] == ["rows_few", "teacher_sampled"]


def test_labels_in_another_order_refuse_the_next_submit(world: World) -> None:
    """By the finding's own code, beside the problem's."""
    request = world.request()
    world.submit(request)
    inspection = world.judge(good(NOTE))
    with world.db.sessions.begin() as s:
        assert service.add_findings(s, inspection, 1, [PERMUTED])
        assert not service.add_findings(s, inspection, 1, [PERMUTED])
    with pytest.raises(Refused) as refused:
        world.submit(request)
    problem = refused.value.problem
    assert (problem.code, problem.param) == ("data_invalid", "/data/train")
    assert [one["code"] for one in problem.errors] == ["labels_permuted"]
