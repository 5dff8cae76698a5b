"""On a GPU: every way through the library ends in a file that the CPU proves. Runs where there is one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from core.data import Data
from core.pipeline import compress
from core.progress import Silent
from core.recipe import Recipe, Target

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

FEW = {"calibration_rows": 64}
DISTILL = {"method": "distill", "min_steps": 40}
RECIPES: dict[str, list[dict[str, Any]]] = {
    "hybrid": [{"method": "weighted_svd", **FEW}, {"method": "obs", "when": "gradual", **FEW}, DISTILL],
    "once": [{"method": "obs", "when": "once", **FEW}, {**DISTILL, "attention": 1.0}],
    "plain": [{"method": "svd"}, {"method": "magnitude"}, DISTILL],
    "plus": [{"method": "low_rank_sparse", **FEW}, DISTILL],
    "bits": [{"method": "weighted_svd", **FEW}, {"method": "gptq", "bits": "auto", "group": 16, **FEW}, DISTILL],
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_job_on_the_gpu_delivers_a_file_that_the_cpu_proves(
    name: str, teacher: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    target = Target(bytes_ratio=1.3) if name == "bits" else Target(parameter_ratio=2)
    recipe = Recipe.model_validate({"steps": RECIPES[name]})
    data = Data(rows["train"], rows["eval"])
    made = compress(teacher, recipe, data, Silent(), target=target, out=tmp_path / "out", device="cuda", threads=2)
    report = made.headline.report
    assert report.hardware.device == "cuda"
    assert report.point.target_met
    assert report.point.student > 0.8
