"""The papers' systems as presets: each ends, on a small model, in files that are proved and as small as planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.data import Data
from core.method import Method
from core.pipeline import compress
from core.progress import Silent
from core.recipe import PRESETS, Ladder, Target
from tests import tiny

# What is asked for instead: of a model this small the graph is half of the file, and no file is 18 times smaller.
OWN = {"ternarybert": Target(), "binarybert": Target(), "aqbert": Target(max_bytes=90_000)}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Data]:
    folder = tmp_path_factory.mktemp("given")
    train = tiny.write_csv(folder / "train.csv", tiny.sentences(300, seed=1))
    graded = tiny.write_csv(folder / "eval.csv", tiny.sentences(120, seed=2))
    return tiny.write_model(folder / "teacher", steps=60), Data(train, graded)


def shorter(step: Method) -> Method:
    """A training of sixty steps where there are more."""
    return step.model_copy(update={"min_steps": 60}) if step.trains else step


@pytest.mark.parametrize("name", OWN)
def test_a_preset_of_a_paper_ends_in_files_that_are_proved(name: str, given: tuple[Path, Data], tmp_path: Path) -> None:
    """Trained for a moment; whether that meets the preset's target is said."""
    (teacher, data), preset = given, PRESETS[name]
    target = preset.asked(OWN[name], Ladder())
    recipe = preset.recipe.model_copy(update={"steps": tuple(map(shorter, preset.recipe.steps))})
    made = compress(teacher, recipe, data, Silent(), target=target, out=tmp_path, threads=1, preset=name)
    point = made.report.point
    assert point.retention > 0.4
    assert point.bytes_ratio > 1.5
    assert {one.file for one in point.parity} == {"model.onnx", "pytorch"}
    assert point.target_met == (not point.shortfall)
    assert bool(made.report.searched) == (name == "aqbert")
