"""A retention and a free dial: what is delivered is the best of all tries, also by a job that died between two."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from core import data as data_files
from core.checkpoint import Checkpoints
from core.data import Data
from core.inspect import shape_of
from core.pipeline import Result, compress
from core.plan import size_of
from core.profile import Profile
from core.recipe import Recipe, Target
from core.report import Report, Try

RECIPE = Recipe.model_validate(
    {"steps": [{"method": "gptq", "bits": "auto", "group": 16, "calibration_rows": 64},
               {"method": "distill", "epochs": 0.5, "batch_size": 32}]}
)  # fmt: skip
TARGET = Target(min_retention=0.95)


class Died(BaseException):
    """As sudden as a kill."""


def doubled(tries: Sequence[Try], _retention: float, _profile: Profile) -> float | None:
    """Three tries, each for twice the loss of the one before."""
    return None if len(tries) == 3 else 2 * (tries[-1].planned_loss or 0)


@pytest.fixture
def job(teacher: Path, rows: dict[str, Path], tmp_path: Path):  # type: ignore[no-untyped-def]
    def run(name: str, checkpoints: Checkpoints | None = None, target: Target = TARGET) -> Result:
        return compress(
            teacher, RECIPE, Data(rows["train"], rows["eval"]), target=target, out=tmp_path / name, threads=1,
            checkpoints=checkpoints,
        )  # fmt: skip

    return run


def test_what_is_delivered_is_the_smallest_that_keeps_the_retention(job, teacher: Path) -> None:  # type: ignore[no-untyped-def]
    report: Report = job("out").report
    kept = [one for one in report.tries if one.kept]
    assert kept, report.tries
    best = max(kept, key=lambda one: one.planned_loss or 0)
    assert report.recipe == best.recipe
    assert "auto" not in str(report.recipe["steps"])
    shape, _ = shape_of(teacher)
    assert report.point.planned_bytes == size_of(Recipe.model_validate(best.recipe), shape).size_bytes
    assert report.point.target == {"min_retention": 0.95}
    assert report.point.target_met == (report.point.retention >= 0.95)
    assert len([stage for stage in report.stages if stage.name == "distill"]) == len(report.tries)


def test_a_job_that_died_in_its_second_try_delivers_what_it_would_have(
    job,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    monkeypatch.setattr("core.seek.next_loss", doubled)
    monkeypatch.setattr("core.seek.best_of", lambda _tries: 0)  # the first: its weights have to come back
    told: list[Path] = []

    def tell(folder: Path) -> None:
        told.append(folder)
        if '"attempt": 1' in (folder / "checkpoint.json").read_text():
            raise Died

    with pytest.raises(Died):
        job("dead", Checkpoints(tmp_path / "kept", every_s=0, told=tell))
    assert (told[-1] / "best.safetensors").exists()
    resumed = job("resumed", Checkpoints(None, (told[-1],)))
    whole = job("whole")
    assert [one.planned_loss for one in resumed.report.tries] == [one.planned_loss for one in whole.report.tries]
    assert resumed.report.tries == whole.report.tries
    assert resumed.report.recipe == whole.report.tries[0].recipe
    first, second = (data_files.digest(one.folder / "model.onnx") for one in (resumed, whole))
    assert first == second


def test_no_try_is_begun_that_would_not_end_in_time(job, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("core.seek.next_loss", doubled)
    report = job("out", target=Target(min_retention=0.95, max_minutes=1e-4)).report
    assert len(report.tries) == 1
    assert report.point.bytes_ratio > 1


def test_a_size_that_is_given_is_tried_once(job) -> None:  # type: ignore[no-untyped-def]
    report = job("out", target=Target(min_retention=0.95, bytes_ratio=6)).report
    assert len(report.tries) == 1
    assert report.tries[0].planned_loss is not None
    assert report.point.bytes_ratio >= 6
