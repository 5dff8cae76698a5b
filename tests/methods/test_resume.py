"""Every kind of recipe resumes to the bits of an uninterrupted run. Of files: tests/core/test_checkpoint."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from core.checkpoint import Checkpoints, Keeper, Place
from core.model import Loaded
from core.phase import Build
from core.progress import Meter, Silent
from core.recipe import Recipe
from core.seek import student
from core.shared import Shared
from tests.methods.conftest import text

FIRST = Place(0, 0, 0, 0)
TRAINING = {"method": "distill", "epochs": 2, "batch_size": 16}
STEPS = 10  # of one training on 80 rows
SVD = {"method": "weighted_svd", "calibration_rows": 64, "keep": 0.5}
MAGNITUDE = {"method": "magnitude", "keep": 0.5}
RECIPES: dict[str, Sequence[dict[str, object]]] = {
    "factors, then obs in training": (SVD, {"method": "obs", "keep": 0.6, "calibration_rows": 64}, TRAINING),
    "low rank plus sparse, best weights on select": (
        {"method": "low_rank_sparse", "calibration_rows": 64, "rounds": 2, "keep": 0.5},
        {**TRAINING, "patience": 50, "look_every": 0.2},
    ),
    "pruning in the second of two trainings": (TRAINING, MAGNITUDE, TRAINING),
    "rounded weights trained straight through, after another training": (
        TRAINING,
        {"method": "gptq", "bits": 3, "group": 8, "calibration_rows": 64},
        TRAINING,
    ),
    "values that move with what is trained, best weights on select": (
        {"method": "ternary"},
        {**TRAINING, "patience": 50, "look_every": 0.2},
    ),
    "three values split into two of two": (
        {"method": "ternary"},
        TRAINING,
        {"method": "binary_split"},
        TRAINING,
    ),
    "ranks that depend on trained weights": (TRAINING, {**SVD, "ranks": "pooled"}, TRAINING),
}
TWICE = RECIPES["pruning in the second of two trainings"]


class Died(BaseException):
    """As sudden as a kill."""


def killed(run: Callable[[Checkpoints], object], folder: Path, over: Callable[[list[Path]], bool]) -> Checkpoints:
    """What a run leaves that dies when told of a checkpoint and it is `over` for all of these.

    Args:
        over: of the folders that were told, the newest last.
    """
    told: list[Path] = []

    def tell(path: Path) -> None:
        told.append(path)
        if over(told):
            raise Died

    with pytest.raises(Died):
        run(Checkpoints(folder, every_s=0, told=tell))
    return Checkpoints(None, tuple(path for path in reversed(told) if path.exists()))


def in_index(said: str) -> Callable[[list[Path]], bool]:
    """Whether the newest checkpoint says so of itself."""
    return lambda told: said in (told[-1] / "checkpoint.json").read_text()


class Run:
    """Trains students of one recipe on a new `Shared` each, as a new process would."""

    def __init__(self, shared: Callable[[], Shared], folder: Path) -> None:
        self.shared, self.folder = shared, folder

    def __call__(self, steps: Sequence[object], checkpoints: Checkpoints | None = None) -> tuple[Build, Meter]:
        meter, recipe = Meter(Silent()), Recipe.model_validate({"steps": steps})
        keeper = Keeper(checkpoints or Checkpoints(), "")
        return student(self.shared(), recipe, meter, None, keeper, FIRST).build, meter

    def killed(self, steps: Sequence[object], count: int) -> Checkpoints:
        """What a run leaves that dies when told of its n-th checkpoint, which is after its n-th step."""
        return killed(lambda kept: self(steps, kept), self.folder, lambda told: len(told) == count)


@pytest.fixture
def run(loaded: Loaded, teacher: Path, tmp_path: Path) -> Run:
    train, select = text(teacher, 80, seed=1), text(teacher, 30, seed=2)

    def shared() -> Shared:
        return Shared(loaded.model, loaded.family, train, 0, torch.device("cpu"), tmp_path, select)

    return Run(shared, tmp_path / "checkpoints")


def same(a: Build, b: Build) -> bool:
    ours, theirs = ({**build.model.state_dict(), **build.masks} for build in (a, b))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("count", [2, STEPS, STEPS + 1, 2 * STEPS - 1])
@pytest.mark.parametrize("steps", RECIPES.values(), ids=RECIPES)
def test_a_resumed_student_equals_the_uninterrupted_one(
    run: Run, steps: Sequence[dict[str, object]], count: int
) -> None:
    """Killed early, at the end of a training, and in a second one where there is a second one."""
    trainings = sum(step["method"] == "distill" for step in steps)
    left = run.killed(steps, min(count, STEPS * trainings - 1))
    resumed, meter = run(steps, left)
    assert same(resumed, run(steps)[0])
    assert meter.warnings


def test_what_a_replayed_step_would_say_of_the_student_is_left_out(run: Run) -> None:
    """A resume in the second training runs the steps before it on weights that were never trained."""
    _, meter = run(TWICE, run.killed(TWICE, STEPS + 3))
    assert meter.warnings[0].startswith("resumed:")
    said = [stage.select_agreement for stage in meter.stages if stage.name == "distill"]
    assert said[0] is None
    assert said[1] is not None


def test_a_student_begins_anew_where_the_teacher_can_no_longer_be_recorded(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a training on recorded answers and half on live ones would be a result that no other run gives."""
    left = run.killed(TWICE, 3)
    recorded, _ = run(TWICE)
    monkeypatch.setattr("core.shared.fits", lambda _folder, _size: False)
    live, meter = run(TWICE, left)
    assert [warning.partition(":")[0] for warning in meter.warnings] == ["began_anew"]
    assert same(live, run(TWICE)[0])
    assert not same(live, recorded)


def test_a_folder_that_holds_checkpoints_is_added_to(run: Run) -> None:
    first, second = run.killed(TWICE, 3), run.killed(TWICE, 3)
    assert not set(first.earlier) & set(second.earlier)
    assert same(run(TWICE, second)[0], run(TWICE)[0])


def test_a_checkpoint_that_cannot_be_written_ends_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("core.checkpoint.save_file", full)
    told: list[Path] = []
    student, meter = run(TWICE, Checkpoints(run.folder, every_s=0, told=told.append))
    assert not told
    assert not list(run.folder.iterdir())
    assert meter.warnings[0].startswith("checkpoint_not_kept: phase distill, step 1: No space left")
    assert same(student, run(TWICE)[0])


def test_what_an_attempt_left_that_died_while_writing_is_cleared(run: Run) -> None:
    (run.folder / ".checkpoint-0").mkdir(parents=True)
    (run.folder / ".checkpoint-0" / "state.safetensors").write_text("half")
    left = run.killed(TWICE, 3)
    assert [path.name for path in left.earlier] == ["checkpoint-2", "checkpoint-1"]


def test_trainings_share_the_time_that_is_left(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[float] = []

    def note(*_: object, budget_s: float, **__: object) -> int:
        budgets.append(budget_s)
        return 1

    monkeypatch.setattr("core.seek.train", note)
    recipe = Recipe.model_validate({"steps": (TRAINING, MAGNITUDE, TRAINING)})
    student(run.shared(), recipe, Meter(Silent()), 1000.0, Keeper(Checkpoints(), ""), FIRST)
    assert budgets == [pytest.approx(500, abs=50), pytest.approx(1000, abs=100)]


def test_a_training_of_one_step_trains(run: Run) -> None:
    """Its warm-up would be the whole of it, at a rate of zero."""
    student, _ = run(({**SVD, "keep": 0.3}, {**TRAINING, "max_rows": 16, "epochs": 1}))
    untrained, _ = run(({**SVD, "keep": 0.3},))
    assert not same(student, untrained)
