"""A retention and a free dial: what is found is the best of all tries, also by a job that died between two.

Without files: that a job delivers what is found, tests/core/test_pipeline shows.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from core.checkpoint import Checkpoints, Keeper
from core.inspect import shape_of
from core.model import Loaded
from core.plan import size_of
from core.profile import Profile
from core.progress import Meter, Silent
from core.promise import Judge
from core.recipe import Recipe, Target
from core.report import Try
from core.resolve import Profiler
from core.seek import Found, Seeker
from core.shared import Shared
from core.tasks import answers_of
from tests.methods.conftest import text
from tests.methods.test_resume import in_index, killed, same

RECIPE = Recipe.model_validate(
    {
        "steps": [
            {"method": "gptq", "bits": "auto", "group": 16, "calibration_rows": 64},
            {"method": "distill", "epochs": 1, "batch_size": 16},
        ]
    }
)
TARGET = Target(min_retention=0.95)
Find = Callable[..., tuple[Found, Meter]]


def quartered(tries: Sequence[Try], _retention: float, _profile: Profile) -> float | None:
    """Three tries, each for a quarter of the loss of the one before."""
    return None if len(tries) == 3 else (tries[-1].planned_loss or 0) / 4


@pytest.fixture
def find(loaded: Loaded, teacher: Path, tmp_path: Path) -> Find:
    """The student of one point, as a new process would find it."""
    train, select = text(teacher, 80, seed=1), text(teacher, 60, seed=2)
    shape, _ = shape_of(teacher)

    def run(
        checkpoints: Checkpoints | None = None, target: Target = TARGET, left_s: float | None = None
    ) -> tuple[Found, Meter]:
        shared = Shared(loaded.model, loaded.family, train, 0, torch.device("cpu"), tmp_path, select)
        judge = Judge("accuracy", answers_of(select.task, select.rows), shared.followed(), 100, 0)
        profiler, meter = Profiler(shared, shape, judge=judge), Meter(Silent())
        (planned,) = profiler.plan([(RECIPE, target)])
        keeper = Keeper(checkpoints or Checkpoints(), "")
        return Seeker(profiler, judge, meter, keeper).find(0, RECIPE, target, planned, left_s), meter

    return run


def test_what_is_found_is_the_smallest_that_keeps_the_retention(find: Find, teacher: Path) -> None:
    found, meter = find()
    kept = [one for one in found.tries if one.kept]
    assert kept
    best = max(kept, key=lambda one: one.planned_loss or 0)
    assert found.recipe.model_dump(mode="json") == best.recipe
    assert '"auto"' not in found.recipe.model_dump_json()
    assert len([stage for stage in meter.stages if stage.name == "distill"]) == len(found.tries)
    shape, _ = shape_of(teacher)
    least = min(size_of(Recipe.model_validate(one.recipe), shape).file_bytes for one in kept)
    assert size_of(found.recipe, shape).file_bytes == least


def test_where_no_try_keeps_it_the_closest_is_delivered_and_said_to_be(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.seek.is_kept", lambda *_: False)
    found, meter = find()
    assert len(found.tries) > 1
    closest = max(found.tries, key=lambda one: one.retention)
    assert found.recipe.model_dump(mode="json") == closest.recipe
    assert meter.warnings[-1].startswith("retention_not_promised")


def test_a_job_that_died_in_its_second_try_finds_what_it_would_have(
    find: Find, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("core.seek.next_loss", quartered)
    monkeypatch.setattr("core.seek.best_of", lambda _tries: 0)  # the first: its weights have to come back
    left = killed(find, tmp_path / "kept", in_index('"attempt": 1'))
    assert (left.earlier[0] / "best.safetensors").exists()
    resumed, whole = find(left)[0], find()[0]
    assert len(whole.tries) == 3
    assert resumed.tries == whole.tries
    assert resumed.recipe == whole.recipe
    assert same(resumed.build, whole.build)


def test_no_try_is_begun_that_would_not_end_in_time(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.seek.next_loss", quartered)
    assert len(find(left_s=1e-3)[0].tries) == 1
    assert len(find(left_s=1e6)[0].tries) == 3


def test_a_size_that_is_given_is_tried_once(find: Find) -> None:
    found, _ = find(target=Target(min_retention=0.95, bytes_ratio=2))
    assert len(found.tries) == 1
    assert found.tries[0].planned_loss is not None
