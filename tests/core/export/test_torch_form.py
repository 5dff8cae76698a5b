"""The PyTorch form gives the student back bit for bit, or refuses with the name of what is wrong."""

import importlib.util
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification

from core.export import torch_form
from core.method import Tensor
from tests import tiny
from tests.core.export.students import EMBEDDING, KINDS, batch, mask, student

Tensors = dict[str, torch.Tensor]
LEFT = f"{EMBEDDING}.left"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    tiny.tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_bytes(b'{"pad_token":  "[PAD]"}\r\n')
    (folder / "notes.txt").write_text("not the tokenizer's")
    return folder


@pytest.fixture
def delivered(source: Path, tmp_path: Path) -> Path:
    """The form of a factorized and masked student, to be broken."""
    model, masks, _ = student("factorized and masked")
    torch_form.write(model, masks, source, tmp_path / "pytorch")
    return tmp_path / "pytorch"


def loaded(folder: Path) -> torch.nn.Module:
    """By the load.py that lies in the folder."""
    spec = importlib.util.spec_from_file_location("delivered_load", folder / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model: torch.nn.Module = module.load(folder)
    return model


@pytest.mark.parametrize("kind", KINDS[1:])
def test_logits_are_equal_bit_for_bit_after_a_round_trip(kind: str, source: Path, tmp_path: Path) -> None:
    model, masks, values = student(kind)
    torch_form.write(model, masks, source, tmp_path / "pytorch", values=values)
    back = loaded(tmp_path / "pytorch")
    feed = batch(3, 20)
    with torch.no_grad():
        assert torch.equal(back(**feed).logits, model(**feed).logits)
    assert not back.training


def test_an_unchanged_model_is_a_stock_directory(source: Path, tmp_path: Path) -> None:
    model, masks, _ = student("dense")
    torch_form.write(model, masks, source, tmp_path / "pytorch")
    assert not (tmp_path / "pytorch/load.py").exists()
    back, info = BertForSequenceClassification.from_pretrained(tmp_path / "pytorch", output_loading_info=True)
    assert not any(info.values())
    feed = batch(2, 9)
    with torch.no_grad():
        assert torch.equal(back.eval()(**feed).logits, model(**feed).logits)


def test_packed_weights_take_the_planned_bytes(delivered: Path) -> None:
    model, masks, _ = student("factorized and masked")
    planned = [
        Tensor(name, 1, p.numel(), int(masks[name].sum()) if name in masks else p.numel(), "fixed").size_bytes
        for name, p in model.named_parameters()
    ]
    assert sum(tensor.nbytes for tensor in load_file(delivered / "weights.safetensors").values()) == sum(planned)


def test_tokenizer_files_are_carried_byte_for_byte(delivered: Path, source: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (delivered / name).read_bytes() == (source / name).read_bytes()
    assert not (delivered / "notes.txt").exists()


def test_a_tied_weight_is_stored_once_and_comes_back_under_both_names(source: Path, tmp_path: Path) -> None:
    model, masks, _ = student("dense", layers=2)
    query = "bert.encoder.layer.{}.attention.self.query.weight"
    model.bert.encoder.layer[1].attention.self.query.weight = model.get_parameter(query.format(0))
    mask(model, masks, query.format(0))
    torch_form.write(model, masks, source, tmp_path / "pytorch")
    stored = load_file(tmp_path / "pytorch/weights.safetensors")
    assert sorted(name for name in stored if "query.weight" in name) == [
        f"{query.format(0)}.bitmap",
        f"{query.format(0)}.values",
    ]
    feed = batch(2, 9)
    with torch.no_grad():
        assert torch.equal(loaded(tmp_path / "pytorch")(**feed).logits, model(**feed).logits)


def _without(name: str) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.pop(name)


def _with(name: str, make: Callable[[Tensors], torch.Tensor]) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.update({name: make(tensors)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("classifier.bias"), r"missing \['classifier.bias'\], unexpected \[\]"),
        (_without(f"{LEFT}.bitmap"), rf"missing \['{LEFT}.bitmap'\]"),
        (_with("extra.weight", lambda _: torch.zeros(2)), r"missing \[\], unexpected \['extra.weight'\]"),
        (_with("classifier.bias", lambda _: torch.zeros(4)), r"classifier.bias: \[4\] .* \[3\] torch.float32 needed"),
        (_with("classifier.bias", lambda _: torch.zeros(3).half()), "classifier.bias: .*float16 stored"),
        (_with(f"{LEFT}.values", lambda old: old[f"{LEFT}.values"][1:]), f"{LEFT}: a bitmap of .* survivors"),
        (_with(f"{LEFT}.bitmap", lambda old: old[f"{LEFT}.bitmap"][1:]), f"{LEFT}: a bitmap of"),
    ],
    ids=["missing", "bitmap missing", "unexpected", "shape", "dtype", "survivor lost", "short bitmap"],
)
def test_weights_that_do_not_fit_are_refused(delivered: Path, change: Any, message: str) -> None:
    tensors = load_file(delivered / "weights.safetensors")
    change(tensors)
    save_file(tensors, delivered / "weights.safetensors")
    with pytest.raises(ValueError, match="checksum differs"):
        loaded(delivered)
    structure = json.loads((delivered / "structure.json").read_text())
    structure["crc32"] = zlib.crc32((delivered / "weights.safetensors").read_bytes())
    (delivered / "structure.json").write_text(json.dumps(structure))
    with pytest.raises(ValueError, match=message):
        loaded(delivered)


def test_a_truncated_file_is_refused(delivered: Path) -> None:
    path = delivered / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="checksum differs"):
        loaded(delivered)


def test_one_flipped_bit_is_refused(source: Path, tmp_path: Path) -> None:
    """Most bits of a packed file decode to some weight: only the sum tells."""
    model, masks, values = student("factorized, masked and quantised")
    torch_form.write(model, masks, source, tmp_path / "pytorch", values=values)
    path = tmp_path / "pytorch/weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match="checksum differs"):
        loaded(tmp_path / "pytorch")


def test_a_structure_of_another_format_is_refused(delivered: Path) -> None:
    path = delivered / "structure.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1}))
    with pytest.raises(ValueError, match="format 1; this file reads 10"):
        loaded(delivered)
