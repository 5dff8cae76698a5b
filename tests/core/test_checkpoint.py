"""Checkpoints: a run that goes on from one ends in the same bits as one that was never interrupted."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core import data as data_files
from core.checkpoint import INDEX, STATE, Checkpoints, Keeper, Place
from core.data import Columns, Data
from core.pipeline import Result, compress
from core.point import measure
from core.progress import Silent
from core.recipe import Ladder, Recipe, Target
from core.report import Comparison, Point

LONG = pytest.mark.long
STEPS = (
    {"method": "weighted_svd", "calibration_rows": 64},
    {"method": "obs", "calibration_rows": 64, "increments": 4},
    {"method": "distill", "epochs": 2},
)
LADDER = Ladder(parameter_ratio=(1.6, 2.0))


class Died(BaseException):
    """As sudden as a kill."""


class Killer(Silent):
    """Dies at a step of the n-th training."""

    def __init__(self, training: int, step: int) -> None:
        self.training, self.step, self.seen = training, step, 0
        self.warnings: list[str] = []

    def advance(self, fraction: float, step: int, steps: int) -> None:
        if steps > 1:
            self.seen += step == 1
            if self.seen == self.training and step == self.step:
                raise Died

    def warning(self, code: str, detail: str) -> None:
        self.warnings.append(f"{code}: {detail}")


Run = Callable[..., Result]


@pytest.fixture(scope="module")
def run(teacher: Path, rows: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    def go(progress: Silent | None = None, *, data: Data | None = None, **more: object) -> Result:
        given = {"out": tmp_path_factory.mktemp("out") / "o", "ladder": LADDER, "threads": 1, **more}
        recipe = Recipe.model_validate({"steps": STEPS})
        return compress(teacher, recipe, data or Data(rows["train"], rows["eval"]), progress, target=Target(), **given)  # type: ignore[arg-type]

    return go


@pytest.fixture(scope="module")
def whole(run: Run) -> Iterator[list[str]]:
    """Digests of the weights of a run that nothing interrupted.

    Later runs are to end in the same files, so that what was measured of these stands for theirs: processes of their
    own would load them only to say it again.
    """
    result = run()
    known = {}
    for each in result.points:
        assert each.report.evidence is not None
        known[data_files.digest(each.folder / "model.onnx")] = each.report.point, each.report.evidence.comparison

    def measured(_against: object, folder: Path, *given: object) -> tuple[Point, Comparison]:
        return known.get(data_files.digest(folder / "model.onnx")) or measure(_against, folder, *given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.deliver.measure", measured)
        yield weights(result)


def weights(result: Result) -> list[str]:
    return [data_files.digest(point.folder / "model.onnx") for point in result.points]


def killed(run: Run, folder: Path, training: int, step: int) -> list[Path]:
    """Run until the kill; the checkpoints that were announced, newest first."""
    told: list[Path] = []
    with pytest.raises(Died):
        run(Killer(training, step), checkpoints=Checkpoints(folder, every_s=0, told=told.append))
    return [path for path in reversed(told) if path.exists()]


@pytest.mark.parametrize(
    ("training", "step"), [pytest.param(1, 5, marks=LONG), pytest.param(1, 21, marks=LONG), (2, 13)]
)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    run: Run, whole: list[str], tmp_path: Path, training: int, step: int
) -> None:
    """Killed in the middle of pruning, after it, and in the second point of a ladder; two checkpoints are kept."""
    left = killed(run, tmp_path, training, step)
    assert len(left) == 2
    watcher = Killer(0, 0)
    result = run(watcher, checkpoints=Checkpoints(None, tuple(left)))
    assert weights(result) == whole
    assert any(warning.startswith("resumed:") for warning in watcher.warnings)
    assert watcher.seen == (1 if training == 1 else 0)  # the trainings that began at their first step


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(run: Run, whole: list[str], tmp_path: Path) -> None:
    newest, before = killed(run, tmp_path, 1, 9)
    with (newest / STATE).open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"\xff\xff\xff")
    watcher = Killer(0, 0)
    assert weights(run(watcher, checkpoints=Checkpoints(None, (newest, before)))) == whole
    step = json.loads((before / INDEX).read_text())["done"]["steps"]
    assert any(f"goes on at step {step};" in warning for warning in watcher.warnings)


def damaged(rng: random.Random, files: list[Path]) -> str:
    """One of the files cut, with a bit turned, a block of zeros, more at its end, or gone; what was done."""
    file = rng.choice(files)
    content = bytearray(file.read_bytes())
    at = rng.randrange(len(content))
    what = rng.choice(("cut", "bit", "zeros", "more", "gone"))
    if what == "bit":
        content[at] ^= 1 << rng.randrange(8)
    elif what == "zeros":
        content[at : at + 64] = bytes(len(content[at : at + 64]))
        content[at] ^= 1  # where zeros stood already
    file.write_bytes(content[:at] if what == "cut" else content + rng.randbytes(9) if what == "more" else content)
    if what == "gone":
        file.unlink()
    return f"{what} at {at} of {file.name}"


def test_of_200_damaged_checkpoints_none_is_used_and_none_breaks_the_run(run: Run, tmp_path: Path) -> None:
    """D9. Wherever a bit turned: the one before is found in its place, with all that it holds."""
    newest, before = killed(run, tmp_path, 1, 9)
    index = json.loads((before / INDEX).read_text())
    rng, seen = random.Random(1), set[str]()
    for number in range(200):
        broken = shutil.copytree(newest, tmp_path / f"broken-{number}")
        done = damaged(rng, sorted(broken.iterdir()))
        seen.add(done.partition(" ")[0] + done.rpartition(" ")[2])
        keeper = Keeper(Checkpoints(None, (broken, before)), index["mark"])
        assert keeper.enter(Place(**index["place"])) is False
        assert keeper._found is not None
        assert keeper._found[1] == before, done
        shutil.rmtree(broken)
    assert len(seen) == 5 * len(list(newest.iterdir()))


@pytest.mark.parametrize("what", ["seed", pytest.param("ladder", marks=LONG), pytest.param("columns", marks=LONG)])
def test_a_checkpoint_of_another_job_is_not_used(run: Run, rows: dict[str, Path], tmp_path: Path, what: str) -> None:
    named = Data(rows["train"], rows["eval"], columns=Columns(text="text"))
    others = {"seed": 1, "ladder": Ladder(parameter_ratio=(1.7, 2.0)), "data": named}
    other = {"data" if what == "columns" else what: others["data" if what == "columns" else what]}
    left = killed(run, tmp_path, 1, 5)
    watcher = Killer(1, 1)  # dies at once if it begins at the first step
    with pytest.raises(Died):
        run(watcher, checkpoints=Checkpoints(None, tuple(left)), **other)


@pytest.mark.long
def test_without_any_sound_checkpoint_the_run_begins_anew(run: Run, whole: list[str], tmp_path: Path) -> None:
    left = killed(run, tmp_path, 1, 5)
    (left[0] / INDEX).write_text("{")
    shutil.rmtree(left[1])
    watcher = Killer(0, 0)
    assert weights(run(watcher, checkpoints=Checkpoints(None, (*left, tmp_path / "nowhere")))) == whole
    assert watcher.seen == 2
    assert {warning.partition(":")[0] for warning in watcher.warnings} <= {"no_runtime_gain_expected"}
