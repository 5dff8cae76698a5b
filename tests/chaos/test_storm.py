"""Kill loops (D1): nothing lost, nothing published twice, nothing incomplete, whoever dies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.storm import storm

SEED = int(os.environ.get("LADAPRESS_CHAOS_SEED", "1"))
SMALL = {
    "embedded": (20, {"worker": 4.0}),
    "celery": (20, {"worker": 4.0, "redis": 5.0, "postgresql": 5.0}),
}
SLEEPERS = {"steps": 8, "step_s": 0.1}
LARGE = {
    "embedded": (1000, {"worker": 5.0}),
    "celery": (1000, {"worker": 5.0, "redis": 12.0, "postgresql": 20.0}),
}


def survived(form: str, folder: Path, jobs: int, every_s: dict[str, float]) -> None:
    made = storm(form, folder, jobs=jobs, every_s=every_s, seed=SEED)
    print(made.summary())
    assert set(made.kills) == set(every_s)
    assert not made.broken


@pytest.mark.parametrize("form", SMALL)
def test_jobs_outlive_whatever_is_killed(form: str, tmp_path: Path) -> None:
    survived(form, tmp_path, *SMALL[form])


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("form", LARGE)
def test_a_thousand_jobs_outlive_whatever_is_killed(form: str, tmp_path: Path) -> None:
    survived(form, tmp_path, *LARGE[form])


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
