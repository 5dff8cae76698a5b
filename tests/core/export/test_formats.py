"""Files beside the two forms: each is the student as its format rounds it, and a format says what that costs."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from core.batches import Split
from core.data import Rows
from core.errors import VerificationFailed
from core.export.formats import WRITERS, allowance, allowances, write
from core.family import FAMILIES
from core.grid import Grid
from core.outputs import FORMATS, Output
from core.parity import Expected, on_ids, on_rows
from core.phase import Build
from core.rounding import put_on_int8
from core.surgery import factorize, rounding_inputs
from core.verify import shipped
from tests import tiny
from tests.core.export.students import student

IDS = [[2, 9, 3], [2, *range(5, 45), 3], [2, 7, 8, 11, 30, 3]]
QUERY = "bert.encoder.layer.0.attention.self.query"


def built(kind: str = "factorized, shared rows, quantised") -> Build:
    """A student of every part that there is: two factors, a sparse part, shared rows, codes, int8 products."""
    model, masks, values = student(kind)
    found = Build(model, SimpleNamespace(family=FAMILIES["bert"]), masks=masks, values=values)  # type: ignore[arg-type]
    if kind.startswith("factorized, shared"):
        linears = [name for name in found.compressible() if "embeddings" not in name]
        put_on_int8(found, but=linears[:3])
        for name, grid in values.items():
            if isinstance(grid, Grid) and grid.int8:  # as training leaves them: no row's largest is at its end
                parameter = model.get_parameter(name).data
                parameter.copy_((parameter / grid.scales).clamp(-40, 40) * grid.scales)
        rows, columns = model.config.hidden_size, model.config.hidden_size
        model.set_submodule(QUERY, torch.nn.Linear(columns, rows))
        sparse = torch.randn(rows, columns) * (torch.rand(rows, columns) < 0.1)
        factorize(model, QUERY, torch.randn(rows, 8) / 6, torch.randn(8, columns) / 6, sparse)
        for part in ("left", "right", "bias"):
            values.pop(f"{QUERY}.{part}")
    return found


@pytest.fixture(scope="module")
def build() -> Build:
    """Read only."""
    found = built()
    assert {"left", "sparse"} <= dict(found.model.get_submodule(QUERY).named_parameters()).keys()
    assert len(rounding_inputs(found.model)) >= 3
    return found


@pytest.fixture(scope="module")
def folder(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("formats")
    before = {name: tensor.clone() for name, tensor in build.model.state_dict().items()}
    write(build, [*FORMATS], made)
    after = build.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items()), "the student stays as it was"
    return made


def run(folder: Path, name: Output) -> Any:
    """Of IDS, each alone, by the code of verify.py."""
    model = shipped.FORMS[FORMATS[name].path](folder, 1)
    return shipped.run_ids(model, IDS, [[0] * len(row) for row in IDS], 0, 1)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_the_student_as_its_format_rounds_it(build: Build, folder: Path, name: Output) -> None:
    """At other lengths than it was traced with, one row and one token included."""
    twin = on_ids(WRITERS[name].twin(build).model, IDS)
    expected = on_ids(build.model, IDS)
    found = run(folder, name)
    if WRITERS[name].rounds:  # in half precision two runs differ by as much as each from the student
        near = float(np.abs(twin.logits - expected.logits).max())
    else:
        near = twin.tolerance if rounding_inputs(WRITERS[name].twin(build).model) else 1e-4
    assert np.abs(found - twin.logits).max() <= max(near, 1e-5)
    assert np.abs(found - expected.logits).max() <= allowance(name, expected, twin)


def test_what_each_file_holds(build: Build, folder: Path) -> None:
    """Half precision is plain fp16; int8 multiplies integers; the program has no pickle and names no place."""
    half = onnx.load(folder / FORMATS["onnx-fp16"].path)
    kinds = {tensor.data_type for tensor in half.graph.initializer}
    assert TensorProto.FLOAT16 in kinds
    assert TensorProto.FLOAT not in kinds
    assert not half.functions
    assert [value.type.tensor_type.elem_type for value in half.graph.output] == [TensorProto.FLOAT]
    int8 = onnx.load(folder / FORMATS["onnx-int8"].path)
    products = [node for node in int8.graph.node if node.op_type == "MatMulInteger"]
    factors = sum(len(shapes) for shapes in _matrices(WRITERS["onnx-int8"].twin(build)).values())
    assert len(products) == factors > 6
    with zipfile.ZipFile(folder / FORMATS["torch-export"].path) as archive:
        for member in archive.namelist():
            content = archive.read(member)
            assert not content.startswith((b"\x80", b"PK")), f"{member} is a pickle"
            assert b"/core/" not in content
            assert b"site-packages" not in content
            assert b'"use_pickle": true' not in content
    assert [path.name for path in sorted((folder / "outputs/openvino").iterdir())] == ["model.bin", "model.xml"]


def _matrices(build: Build) -> dict[str, list[torch.Size]]:
    """Of every encoder linear, the shapes that are multiplied."""
    return {
        name: [p.shape for p in build.model.get_submodule(name).parameters(recurse=False) if p.dim() == 2]
        for name in build.compressible()
        if name != build.family.embedding
    }


@pytest.mark.parametrize("name", FORMATS)
def test_who_rounds_inputs_in_which_format(build: Build, name: Output) -> None:
    """Half precision and OpenVINO take them as they come, int8 rounds them all, the program as the student does."""
    rounding = rounding_inputs(WRITERS[name].twin(build).model).keys()
    student = rounding_inputs(build.model).keys()
    expected = {"onnx-fp16": {*()}, "openvino": {*()}, "onnx-int8": {*_matrices(build)}, "torch-export": {*student}}
    assert rounding == expected[name]
    assert len(student) == 3


def test_a_linear_in_int8_stays_as_it_was_trained(build: Build) -> None:
    twin = WRITERS["onnx-int8"].twin(build)
    theirs = dict(twin.model.named_parameters())
    trained = [f"{name}.{part}" for name in rounding_inputs(build.model) for part in ("left", "right")]
    assert trained
    assert all(torch.equal(theirs[name], build.model.get_parameter(name)) for name in trained)


def test_masked_entries_stay_zero_in_int8() -> None:
    masked = built("factorized and masked")
    twin = WRITERS["onnx-int8"].twin(masked)
    assert masked.masks
    for name, mask in masked.masks.items():
        assert not twin.model.get_parameter(name)[~mask].any()


def test_what_a_format_costs_is_measured_on_rows_and_ids(build: Build) -> None:
    """Of the rows and of the ids apart, by the path of the file."""
    texts = [text for text, _ in tiny.sentences(4, seed=3)]
    sample = Split.encode(tiny.tokenizer(), Rows(texts, None, [0] * 4), max_tokens=24, pad_id=0)
    rows, ids = on_rows(build.model, sample), on_ids(build.model, IDS)
    found = allowances(build, ["openvino"], sample, IDS, rows, ids)
    twin = WRITERS["openvino"].twin(build).model
    assert found == {
        "outputs/openvino/model.xml": (
            allowance("openvino", rows, on_rows(twin, sample)), allowance("openvino", ids, on_ids(twin, IDS)),
        )
    }  # fmt: skip
    assert allowances(build, [], sample, IDS, rows, ids) == {}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_may_be_as_far_as_its_twin_and_as_far_again_as_two_runs_of_it(name: Output) -> None:
    student, twin = Expected(np.float32([[1, 2]]), 1e-3), Expected(np.float32([[1, 2.25]]), 1e-3)
    assert allowance(name, student, twin) == (0.5 if name == "onnx-fp16" else 0.251)
    assert allowance(name, student, student) == 1e-3


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_numbers_beyond_a_format_are_a_refusal_and_no_allowance(wrong: float) -> None:
    with pytest.raises(VerificationFailed, match=r"'onnx-fp16'.* not finite in this format"):
        allowance("onnx-fp16", Expected(np.float32([[1, 2]]), 1e-3), Expected(np.float32([[1, wrong]]), 1e-3))


def test_a_student_that_half_precision_cannot_hold_is_refused() -> None:
    dense = built("dense")
    with torch.no_grad():
        dense.model.get_parameter("classifier.bias").add_(1e5)
    twin = on_ids(WRITERS["onnx-fp16"].twin(dense).model, IDS)
    with pytest.raises(VerificationFailed):
        allowance("onnx-fp16", on_ids(dense.model, IDS), twin)


def test_verify_knows_every_format_by_its_path() -> None:
    """What it needs is what the process that proves it may import."""
    assert {one.path: one.needs for one in FORMATS.values()} == {
        path: needs for path, needs in shipped.NEEDS.items() if path.startswith("outputs/")
    }
    assert shipped.NEEDS.keys() == shipped.FORMS.keys()
    loaders: set[Callable[..., Any]] = {*shipped.FORMS.values()}
    assert len(loaders) == len(shipped.FORMS)
