"""Both delivered forms are read as their user reads them, and a file that computes something else is caught."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification

from core.errors import VerificationFailed
from core.export import artifact, torch_form
from core.verify import IsolatedRun, check, logits, shipped
from tests import tiny
from tests.core.export.students import student

MAX_LENGTH = 24
TEXTS = [text for text, _ in tiny.sentences(40, seed=5)]
# Of all lengths, some longer than MAX_LENGTH, single texts and pairs mixed, not sorted.
ROWS: list[tuple[str, str | None]] = [
    (" ".join(TEXTS[: 1 + i % 5]), TEXTS[-i] if i % 3 == 0 else None) for i in range(len(TEXTS))
]


@dataclass(frozen=True)
class Delivered:
    folder: Path
    model: BertForSequenceClassification
    expected: npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    """The artifact of a factorized and masked student, whose tokenizer file asks for a fixed length."""
    model, masks, _ = student("factorized and masked")
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("artifact")
    tokenizer = tiny.tokenizer()
    tokenizer.enable_padding(length=MAX_LENGTH)
    tokenizer.enable_truncation(7)
    tokenizer.save(str(source / "tokenizer.json"))
    artifact.write(model, masks, source, folder, torch_form=True)
    return Delivered(folder, model, _one_by_one(model))


def _one_by_one(model: BertForSequenceClassification) -> npt.NDArray[np.float32]:
    """Logits of ROWS in memory, each row alone: no padding, no order."""
    tokenizer = tiny.tokenizer()
    tokenizer.enable_truncation(MAX_LENGTH)
    found = []
    for text, pair in ROWS:
        encoded = tokenizer.encode(text, pair)
        with torch.no_grad():
            ids, types = torch.tensor([encoded.ids]), torch.tensor([encoded.type_ids])
            found.append(model(input_ids=ids, token_type_ids=types).logits.numpy())
    return np.concatenate(found)


def run(kind: str, delivered: Delivered) -> IsolatedRun:
    return logits(kind, delivered.folder, ROWS, max_length=MAX_LENGTH, threads=1, batch_size=7)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def onnx_run(delivered: Delivered) -> IsolatedRun:
    return run("onnx", delivered)


def test_the_onnx_file_agrees_with_the_student_row_by_row(delivered: Delivered, onnx_run: IsolatedRun) -> None:
    parity = check("model.onnx", delivered.expected, onnx_run, tolerance=1e-5)
    assert (parity.file, parity.rows, parity.tolerance) == ("model.onnx", len(ROWS), 1e-5)
    assert parity.max_difference <= 1e-5
    assert parity.load_s > 0
    assert {"onnxruntime", "numpy", "tokenizers"} <= {entry.partition("==")[0] for entry in parity.closure}


def test_the_torch_form_agrees_with_the_student_row_by_row(delivered: Delivered) -> None:
    found = run("torch", delivered)
    assert check("pytorch", delivered.expected, found, tolerance=1e-5).rows == len(ROWS)
    assert _dense_bytes(delivered) <= found.bytes_in_memory < _dense_bytes(delivered) + 5_000  # index buffers


def test_bytes_in_memory_are_those_of_the_dense_weights(delivered: Delivered, onnx_run: IsolatedRun) -> None:
    """The runtime unpacks at load; it aligns each weight, and keeps a few constants of the graph."""
    dense, weights = _dense_bytes(delivered), len(list(delivered.model.parameters()))
    assert dense <= onnx_run.bytes_in_memory < dense + 1_024 * weights
    assert onnx_run.bytes_in_memory > (delivered.folder / "model.onnx").stat().st_size - 40_000


def _dense_bytes(delivered: Delivered) -> int:
    return sum(4 * p.numel() for p in delivered.model.parameters())


def test_a_file_with_one_altered_weight_is_refused_with_the_numbers(delivered: Delivered, tmp_path: Path) -> None:
    proto = onnx.load(delivered.folder / "model.onnx")
    (bias,) = (tensor for tensor in proto.graph.initializer if tensor.name == "classifier.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32([0, 0, 0.25]), bias.name))
    onnx.save(proto, tmp_path / "model.onnx")
    (tmp_path / "tokenizer.json").write_bytes((delivered.folder / "tokenizer.json").read_bytes())
    found = run("onnx", replace(delivered, folder=tmp_path))
    with pytest.raises(VerificationFailed, match=r"m.onnx: 40 of 40 rows differ .* by 0\.25 at most; 0\.001 is"):
        check("m.onnx", delivered.expected, found, tolerance=1e-3)


def test_outputs_that_are_no_numbers_or_of_another_shape_are_refused(
    delivered: Delivered, onnx_run: IsolatedRun
) -> None:
    broken = onnx_run.logits.copy()
    broken[3, 1] = np.nan
    with pytest.raises(VerificationFailed, match=r"1 of 40 rows differ .* by nan"):
        check("m.onnx", delivered.expected, replace(onnx_run, logits=broken), tolerance=1e9)
    with pytest.raises(VerificationFailed, match=r"\(39, 3\), the student's are \(40, 3\)"):
        check("m.onnx", delivered.expected, replace(onnx_run, logits=broken[1:]), tolerance=1e9)


def test_a_file_that_does_not_load_is_refused_with_the_runtimes_words(delivered: Delivered, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes((delivered.folder / "model.onnx").read_bytes()[:-500])
    with pytest.raises(VerificationFailed, match=r"^isolated: the process ended with 1: .*Protobuf parsing failed\.$"):
        run("onnx", replace(delivered, folder=tmp_path))


def test_a_stock_directory_with_a_missing_weight_is_refused(tmp_path: Path) -> None:
    """Transformers alone would fill it with random numbers."""
    model, _, _ = student("dense")
    torch_form.write(model, {}, tmp_path, tmp_path / "pytorch")
    shipped.load_module(tmp_path, 1)
    path = tmp_path / "pytorch/model.safetensors"
    tensors = load_file(path)
    tensors.pop("classifier.bias")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"weights do not match config\.json: .*classifier\.bias"):
        shipped.load_module(tmp_path, 1)
