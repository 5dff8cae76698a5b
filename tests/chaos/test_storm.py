"""Kill loops (D1): nothing lost, nothing published twice, nothing incomplete, whoever dies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.storm import MAX_ATTEMPTS, storm

SEED = int(os.environ.get("LADAPRESS_CHAOS_SEED", "1"))
SMALL = {
    "embedded": (20, {"worker": 4.0}),
    "celery": (20, {"worker": 4.0, "redis": 5.0, "postgresql": 5.0}),
}
SLEEPERS = {"steps": 8, "step_s": 0.1}
LARGE = {
    "embedded": (1000, {"worker": 5.0}),
    # A worker that Celery keeps is up again after some ten CPU-seconds: killed faster than that, none would work.
    "celery": (1000, {"worker": 15.0, "redis": 20.0, "postgresql": 30.0}),
}


def survived(form: str, folder: Path, jobs: int, every_s: dict[str, float], attempts: int = MAX_ATTEMPTS) -> None:
    made = storm(form, folder, jobs=jobs, every_s=every_s, seed=SEED, attempts=attempts)
    print(made.summary())
    assert set(made.kills) == set(every_s)
    assert not made.broken


@pytest.mark.parametrize("form", SMALL)
def test_jobs_outlive_whatever_is_killed(form: str, tmp_path: Path) -> None:
    survived(form, tmp_path, *SMALL[form])


def certain(folder: Path, jobs: int, share: float) -> None:
    made = storm("postgresql", folder, jobs=jobs, every_s={}, seed=SEED, doubtful=share, workers=3)
    print(made.summary())
    assert min(made.cut["carried out"], made.cut["not carried out"]) >= 5
    assert not made.broken


def test_a_commit_without_an_answer_is_made_once(tmp_path: Path) -> None:
    """D7, small: API and workers ask again where they cannot know, and nobody gets two jobs or two artifacts."""
    certain(tmp_path, jobs=20, share=0.08)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_of_500_jobs_none_is_made_twice_by_a_commit_without_an_answer(tmp_path: Path) -> None:
    """D7."""
    certain(tmp_path, jobs=500, share=0.1)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", LARGE)
def test_machines_whose_clocks_are_an_hour_wrong_take_nothing_from_each_other(form: str, tmp_path: Path) -> None:
    """D28. Leases go by the database's clock alone: no attempt is lost, and no job runs twice."""
    made = storm(form, tmp_path, jobs=40, every_s={}, seed=SEED, workers=3, clocks=(0.0, 3600.0, -3600.0))
    print(made.summary())
    assert not made.silences
    assert not made.broken


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", LARGE)
def test_a_thousand_jobs_outlive_whatever_is_killed(form: str, tmp_path: Path) -> None:
    """None may be given up: ten attempts each, and every one has to succeed."""
    survived(form, tmp_path, *LARGE[form], attempts=10)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("form", LARGE)
def test_who_slept_past_a_lease_publishes_nothing(form: str, tmp_path: Path) -> None:
    """D2. And without fences somebody does, or this test would prove nothing."""
    every_s = {"pause": 4.0}
    made, control = (
        storm(
            form, tmp_path / name, jobs=60, every_s=every_s, seed=SEED, workers=3, wishes=[SLEEPERS], unfenced=unfenced
        )
        for name, unfenced in (("fenced", False), ("control", True))
    )
    print(made.summary(), control.summary(), control.broken)
    assert not made.broken
    assert any("published under fence" in one for one in control.broken)
