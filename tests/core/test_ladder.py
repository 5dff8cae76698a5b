"""A ladder: several points from one job, each what it would be alone where none goes on from another."""

from pathlib import Path

import pytest

from core import data as data_files
from core.data import Data
from core.pipeline import Result, compress
from core.recipe import PRESETS, Ladder, Target
from core.report import Report
from tests.core.test_pipeline import Watcher

RECIPE = PRESETS["hybrid"].recipe


@pytest.fixture(scope="module")
def ladder(teacher: Path, rows: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Watcher]:
    watcher, out = Watcher(), tmp_path_factory.mktemp("ladder")
    result = compress(
        teacher, RECIPE, Data(rows["train"], rows["eval"]), watcher,
        target=Target(min_retention=0.5), ladder=Ladder(parameter_ratio=(1.5, 2.0)), out=out, threads=1,
    )  # fmt: skip
    return result, watcher


def test_every_rung_is_a_point_with_its_own_target(ladder: tuple[Result, Watcher]) -> None:
    points = ladder[0].points
    assert [one.report.point.target for one in points] == [
        {"parameter_ratio": ratio, "min_retention": 0.5} for ratio in (1.5, 2.0)
    ]
    for one, ratio in zip(points, (1.5, 2.0), strict=True):
        assert one.report.point.parameter_ratio >= ratio
        assert Report.model_validate_json((one.folder / "report.json").read_text()) == one.report
    assert ladder[0].headline is points[0]


@pytest.mark.long
def test_a_point_of_a_ladder_is_what_the_same_target_gives_alone(
    ladder: tuple[Result, Watcher], teacher: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    alone = compress(
        teacher, RECIPE, Data(rows["train"], rows["eval"]),
        target=Target(parameter_ratio=2.0, min_retention=0.5), out=tmp_path / "out", threads=1,
    )  # fmt: skip
    digests = [data_files.digest(one.folder / "model.onnx") for one in (alone.points[0], ladder[0].points[1])]
    assert digests[0] == digests[1]


def test_points_share_the_teachers_stages_and_progress_never_falls(ladder: tuple[Result, Watcher]) -> None:
    result, watcher = ladder
    first, second = (one.report.stages for one in result.points)
    assert [stage.name for stage in first] == [stage.name for stage in second]
    assert first[:3] == second[:3]  # plan, teacher, prepare
    assert first[3:] != second[3:]
    assert watcher.fractions == sorted(watcher.fractions)
    assert watcher.fractions[-1] == pytest.approx(1, abs=0.02)
