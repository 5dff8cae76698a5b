"""The code on the page about artifacts runs, on a delivered folder, without this project."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertForSequenceClassification

from core.export import artifact
from core.factorize.svd import truncate
from core.surgery import factorize
from tests import tiny

PAGE = Path(__file__).parents[2] / "docs/artifact.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact folder of a model with a factorized and a pruned weight."""
    place = tmp_path_factory.mktemp("delivered")
    source = tiny.write_model(place / "source", steps=20)
    model = BertForSequenceClassification.from_pretrained(source).eval()
    layer = "bert.encoder.layer.0.intermediate.dense"
    factorize(model, layer, *truncate(model.get_submodule(layer).weight.detach(), 4))
    pruned = model.get_parameter("bert.encoder.layer.1.output.dense.weight")
    mask = pruned.abs() > pruned.abs().quantile(0.7)
    with torch.no_grad():
        pruned *= mask
    artifact.write(model, {"bert.encoder.layer.1.output.dense.weight": mask}, source, place / "out", torch_form=True)
    return place / "out"


@pytest.mark.parametrize("block", BLOCKS, ids=["onnx", "pytorch"])
def test_the_code_of_the_artifact_page_prints_one_label(block: str, delivered: Path) -> None:
    """It runs as it stands there, from the artifact's folder, in a process that cannot import the project."""
    code = f"import sys\nsys.path = [p for p in sys.path if 'site-packages' in p or 'python3' in p]\n{block}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=delivered, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(tensor\()?\[[01]\]\)?\n", done.stdout), done.stdout
