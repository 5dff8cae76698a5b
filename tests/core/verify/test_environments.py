"""What is delivered loads in real environments: the oldest and the newest that docs/artifact.md promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.data import Data
from core.outputs import FORMATS
from core.pipeline import Result, compress
from core.recipe import PRESETS, Target

DOCS = Path(__file__).parents[3] / "docs/artifact.md"
OLDEST = dict(re.findall(r"`([a-z]+)>=([\d.]+)`", DOCS.read_text(encoding="utf-8")))
FORMS = {
    "model.onnx": ("onnxruntime", "numpy", "tokenizers"),
    "pytorch": ("torch", "transformers", "safetensors"),
    **{one.path: one.needs for one in FORMATS.values()},
}
UV = Path(sys.executable).with_name("uv")


def environment(folder: Path, *packages: str) -> Path:
    """A new one's interpreter. Packages come from where pip finds them."""
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")
    known = os.environ | ({"UV_FIND_LINKS": links} if links else {"UV_TORCH_BACKEND": "cpu"})
    python = folder / "bin/python"
    for command in (["venv", "--python", sys.executable, folder], ["pip", "install", "--python", python, *packages]):
        subprocess.run([UV, *command], env=known, check=True, capture_output=True)
    return python


@pytest.fixture(scope="module")
def result(teacher: Path, rows: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Result:
    preset = PRESETS["ladabert-3"]
    return compress(
        teacher, preset.recipe, Data(rows["train"], rows["eval"]), target=Target(parameter_ratio=2),
        outputs=[*FORMATS], out=tmp_path_factory.mktemp("out"), threads=1,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("age", ["oldest", "newest"])
@pytest.mark.parametrize("form", FORMS)
def test_verify_repeats_the_report_where_nothing_else_is_installed(
    result: Result, rows: dict[str, Path], tmp_path: Path, form: str, age: str
) -> None:
    wanted = [f"{name}=={OLDEST[name]}" if age == "oldest" and name in OLDEST else name for name in FORMS[form]]
    if age == "newest" and "torch" in wanted:
        wanted[wanted.index("torch")] = "torch==2.13.0"  # a later one brings gigabytes of CUDA
    python = environment(tmp_path / "venv", *wanted)
    ours = subprocess.run(
        [python, "-I", "-c", "import core"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert "No module named 'core'" in ours.stderr
    command = [python, "-I", "-B", result.folder / "verify.py", "--eval", rows["eval"]]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    other = "pytorch" if form != "pytorch" else "model.onnx"
    value = result.report.point.student_by_file[form]
    assert f"ok      {form}: accuracy {value:.6f} on 120 rows" in done.stdout
    assert f"skipped {other}: " in done.stdout
