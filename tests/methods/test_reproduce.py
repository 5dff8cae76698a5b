"""A recipe as it was resolved makes the same weights again, bit for bit, on the same machine."""

from pathlib import Path

import pytest

from core.data import Data
from core.pipeline import Result, compress
from core.recipe import Recipe, Target
from tests import tiny

BITS = {"method": "gptq", "bits": "auto", "group": 16, "calibration_rows": 64}
DISTILL = {"method": "distill", "epochs": 0.5}
LONG = pytest.mark.long
ASKED = [
    ([{"method": "weighted_svd", "calibration_rows": 64}, BITS, DISTILL], Target(bytes_ratio=1.8)),
    pytest.param(
        [{"method": "structured", "align": 1}, DISTILL, {"method": "int8"}], Target(parameter_ratio=1.2), marks=LONG
    ),
    pytest.param([BITS, DISTILL], Target(min_retention=0.9), marks=LONG),
]


@pytest.mark.parametrize(("steps", "target"), ASKED)
def test_the_resolved_recipe_makes_the_same_weights(
    teacher: Path, tmp_path: Path, steps: list[dict[str, object]], target: Target
) -> None:
    data = Data(
        tiny.write_csv(tmp_path / "train.csv", tiny.sentences(120, seed=1)),
        tiny.write_csv(tmp_path / "eval.csv", tiny.sentences(40, seed=2)),
    )

    def made(recipe: Recipe, name: str) -> Result:
        return compress(teacher, recipe, data, target=target, out=tmp_path / name, threads=1)

    first = made(Recipe.model_validate({"steps": steps}), "first").report
    again = made(Recipe.model_validate(first.recipe), "again").report
    assert again.weights_sha256 == first.weights_sha256
    assert again.recipe == first.recipe
    assert again.point.student_by_file == first.point.student_by_file
