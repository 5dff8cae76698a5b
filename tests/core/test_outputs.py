"""A job that asks for every format beside the two: each file is proved, measured, listed, and runs as the card says."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from core import outputs
from core.data import Data
from core.errors import OutputUnavailable, VerificationFailed
from core.export import formats
from core.manifest import Manifest
from core.outputs import FORMATS
from core.pipeline import Result, compress
from core.recipe import Recipe
from tests.core.test_proof import listed_again, verify

PATHS = {one.path: one.needs for one in FORMATS.values()}
RECIPE = Recipe.model_validate(
    {"steps": [{"method": "weighted_svd", "keep": 0.6, "calibration_rows": 64}, {"method": "gptq", "bits": 4}]}
)


@pytest.fixture(scope="module")
def result(teacher: Path, rows: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Result:
    return compress(
        teacher, RECIPE, Data(rows["train"], rows["eval"]), outputs=[*FORMATS], out=tmp_path_factory.mktemp("out"),
        threads=1,
    )  # fmt: skip


@pytest.mark.long
def test_every_file_is_listed_proved_in_its_closure_and_measured(result: Result) -> None:
    manifest = Manifest.model_validate_json((result.folder / "manifest.json").read_bytes())
    point = result.report.point
    assert manifest.outputs == result.report.outputs == tuple(FORMATS)
    proved = {one.file: one for one in point.parity}
    assert proved.keys() == manifest.needs.keys() == point.student_by_file.keys() == {"model.onnx", "pytorch", *PATHS}
    ours = {"ladapress", "ladapress-server", "transformers", "onnx"}
    for path, needs in PATHS.items():
        content = (result.folder / path).read_bytes()
        assert manifest.files[path].sha256 == hashlib.sha256(content).hexdigest()
        assert manifest.files[path].size == len(content) == point.sizes.bytes_on_disk[path]
        names = {entry.partition("==")[0] for entry in manifest.needs[path]}
        assert set(needs) <= names
        assert not names & ours
        assert (proved[path].rows, proved[path].max_difference <= proved[path].tolerance) == (40, True)
        assert 0 <= point.agreement_by_file[path] <= 1
        assert f'<th scope="row" class="name">{path}</th>' in (result.folder / "report.html").read_text(
            encoding="utf-8"
        )
    assert "outputs/openvino/model.bin" in manifest.files
    assert not {"torch"} & {entry.partition("==")[0] for entry in manifest.needs["outputs/openvino/model.xml"]}


@pytest.mark.long
def test_ratios_are_those_of_the_default_file(result: Result) -> None:
    point = result.report.point
    assert point.bytes_ratio == 4 * point.sizes_teacher.parameters / point.sizes.bytes_on_disk["model.onnx"]
    assert point.student == point.student_by_file["model.onnx"]


@pytest.mark.long
def test_verify_checks_each_of_them_and_finds_the_one_that_answers_otherwise(
    result: Result, rows: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(result.folder, tmp_path / "copy"))
    path = folder / FORMATS["onnx-fp16"].path
    proto = onnx.load(path)
    (bias,) = (tensor for tensor in proto.graph.initializer if tensor.name == "classifier.bias")
    moved = numpy_helper.to_array(bias) + np.array([0.25, 0], np.float16)
    bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
    onnx.save(proto, path)
    listed_again(folder, FORMATS["onnx-fp16"].path)
    code, said = verify(folder, "--eval", str(rows["eval"]))
    assert code == 1
    assert "WRONG   outputs/model.fp16.onnx: answers differ by 0.2" in said
    for name in ("model.onnx", "pytorch", *PATHS):
        if name != FORMATS["onnx-fp16"].path:
            value = result.report.point.student_by_file[name]
            assert f"ok      {name}: answers differ by " in said
            assert f"ok      {name}: accuracy {value:.6f} on 120 rows; report.json says {value:.6f}\n" in said


@pytest.mark.long
def test_the_lines_of_the_model_card_run(result: Result) -> None:
    """Every format has its lines and what pip is told to install, and all give the same class."""
    text = (result.folder / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2 + len(FORMATS)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[2:-1] == [*FORMATS]
    assert text.count("pip install") == len(blocks)
    assert 'pip install "openvino==' in text
    # One process for all: each block makes its own names.
    code = "\nprint('--')\n".join(blocks)
    command = [sys.executable, "-I", "-B", "-c", code]
    done = subprocess.run(command, cwd=result.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [tuple(re.findall(r"\d+", part)) for part in done.stdout.split("--")]
    assert len(said) == len(blocks)
    assert len({*said}) == 1, said
    size = sum((result.folder / "outputs/openvino" / name).stat().st_size for name in ("model.xml", "model.bin"))
    assert f"with `model.bin`: accuracy {result.report.point.student:.4f}" in text
    assert f"{size:,} bytes" in text


@pytest.mark.long
def test_a_file_that_is_not_its_student_fails_the_job_with_the_numbers(
    teacher: Path, rows: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is published, though model.onnx and pytorch/ are right."""
    writer = formats.WRITERS["onnx-int8"]
    honest = writer.write

    def shifted(twin, path):  # type: ignore[no-untyped-def]
        bias = twin.model.get_parameter("classifier.bias").data
        bias[0] = (bias[0] + 0.25).half().float()
        honest(twin, path)

    monkeypatch.setattr(writer, "write", shifted)
    with pytest.raises(VerificationFailed, match=r"^outputs/model\.int8\.onnx: 16 of 16 rows differ .* by 0\.2"):
        compress(
            teacher, Recipe.model_validate({"steps": [{"method": "svd", "keep": 0.9}]}),
            Data(rows["train"], rows["eval"]), outputs=["onnx-int8"], out=tmp_path / "out", threads=1,
        )  # fmt: skip
    assert [*(tmp_path / "out").iterdir()] == []


def test_a_worker_without_the_runtime_refuses_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naming field, value and extra; formats that it has are no trouble."""
    monkeypatch.setattr(outputs, "find_spec", lambda name: None if name == "openvino" else find_spec(name))
    nowhere = Data(tmp_path / "train.csv", tmp_path / "eval.csv")
    with pytest.raises(OutputUnavailable) as refused:
        compress(tmp_path / "model", RECIPE, nowhere, outputs=["onnx-fp16", "openvino"], out=tmp_path / "out")
    assert (refused.value.code, refused.value.param) == ("output_unavailable", "/outputs/1")
    assert "'openvino' needs openvino" in refused.value.detail
    assert "ladapress-server[openvino]" in refused.value.detail
    outputs.check_outputs(["onnx-fp16", "onnx-int8", "torch-export"])


@pytest.mark.long
def test_the_report_of_a_job_without_them_names_none(result: Result) -> None:
    """Older reports are read as such."""
    report = json.loads((result.folder / "report.json").read_text())
    del report["outputs"], report["point"]["agreement_by_file"]
    again = type(result.report).model_validate(report)
    assert (again.outputs, again.point.agreement_by_file) == ((), {})
