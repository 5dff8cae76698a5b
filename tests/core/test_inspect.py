"""Inspection: an honest upload passes with its exact shape; each broken one is refused by code and by name."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from core.data import Data
from core.errors import CompressionError, ModelInvalid
from core.inspect import inspect, shape_of
from core.model import load
from tests import tiny

Break = Callable[[Path], object]


@pytest.fixture
def folder(teacher: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(teacher, tmp_path / "model"))


def edit(folder: Path, name: str = "config.json", **changes: object) -> None:
    path = folder / name
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    found = load_file(path)
    change(found)
    save_file(found, path, metadata={"format": "pt"})


def shard(folder: Path, where: str) -> None:
    names = list(load_file(folder / "model.safetensors"))
    index = {"weight_map": dict.fromkeys(names, where)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def poison(folder: Path) -> None:
    tensors(folder, lambda t: t["classifier.bias"].fill_(float("nan")))


def grown(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"new{i}" for i in range(30)])
    tokenizer.save(str(folder / "tokenizer.json"))


def lying_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + b"{}")


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


BROKEN: dict[str, tuple[Break, str, str]] = {
    "pickle by name": (lambda f: (f / "pytorch_model.bin").write_bytes(b"x"), "model_unsafe", "pytorch_model.bin"),
    "pickle by content": (lambda f: (f / "vocab.txt").write_bytes(b"\x80\x04evil"), "model_unsafe", "pickle"),
    "zip by content": (lambda f: (f / "README.md").write_bytes(b"PK\x03\x04"), "model_unsafe", "zip"),
    "code": (lambda f: (f / "modeling.py").write_text("x"), "model_unsafe", "modeling.py"),
    "auto_map": (lambda f: edit(f, auto_map={"AutoModel": "x.Y"}), "model_unsafe", "auto_map"),
    "auto_map deep inside": (lambda f: edit(f, task={"a": [{"auto_map": 1}]}), "model_unsafe", "auto_map"),
    "kernel from the file": (lambda f: edit(f, attn_implementation="org/k"), "model_unsafe", "attn_implementation"),
    "weight_map leaves": (lambda f: shard(f, "../../other/model.safetensors"), "model_unsafe", "weight_map"),
    "weight_map names nothing": (lambda f: shard(f, "gone.safetensors"), "model_invalid", "gone.safetensors"),
    "architecture": (lambda f: edit(f, architectures=["GPT2LMHeadModel"]), "model_unsupported", "GPT2LMHeadModel"),
    "two architectures": (lambda f: edit(f, architectures=["A", "B"]), "model_invalid", "one name"),
    "family": (lambda f: edit(f, model_type="llama"), "model_unsupported", "llama"),
    "family of a wrong type": (lambda f: edit(f, model_type=["bert"]), "model_unsupported", "bert"),
    "labels with a hole": (lambda f: edit(f, id2label={"0": "a", "2": "b"}), "model_invalid", "id2label"),
    "labels not of the head": (lambda f: edit(f, id2label=dict(enumerate("abc"))), "model_invalid", "classifier"),
    "more layers than weights": (lambda f: edit(f, num_hidden_layers=9), "model_invalid", "lack"),
    "fewer layers than weights": (lambda f: edit(f, num_hidden_layers=1), "model_invalid", "promises"),
    "absurd size": (lambda f: edit(f, vocab_size=10**12), "model_invalid", "vocab_size"),
    "vocabulary smaller than the embedding": (lambda f: edit(f, vocab_size=60), "model_invalid", "(72, 32)"),
    "hidden size of another model": (lambda f: edit(f, hidden_size=64), "model_invalid", "promises"),
    "neurons of another model": (lambda f: edit(f, intermediate_size=96), "model_invalid", "intermediate.dense"),
    "tokenizer larger than the embedding": (grown, "model_invalid", "token ids"),
    "NaN in a weight": (poison, "model_invalid", "classifier.bias"),
    "a size left out": (lambda f: edit(f, num_hidden_layers=None), "model_invalid", "num_hidden_layers"),
    "a size of a wrong type": (lambda f: edit(f, vocab_size="many"), "model_invalid", "vocab_size"),
    "heads that do not divide": (lambda f: edit(f, num_attention_heads=5), "model_invalid", "multiple"),
    "padding outside the vocabulary": (lambda f: edit(f, pad_token_id=10**6), "model_invalid", "pad_token_id"),
    "too few positions": (lambda f: edit(f, max_position_embeddings=64), "model_invalid", "128"),
    "auto_map beside the tokenizer": (
        lambda f: (f / "tokenizer_config.json").write_text('{"auto_map": {}}'), "model_unsafe", "tokenizer_config",
    ),
    "weights that are not the model's": (
        lambda f: save_file({"x": torch.ones(3)}, f / "adapter.safetensors"), "model_invalid", "adapter.safetensors",
    ),
    "config is not JSON": (lambda f: (f / "config.json").write_text("{"), "model_invalid", "config.json"),
    "config repeats a key": (lambda f: (f / "config.json").write_text('{"a":1,"a":2}'), "model_invalid", "twice"),
    "no config": (lambda f: (f / "config.json").unlink(), "model_invalid", "config.json"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "model_invalid", "tokenizer.json"),
    "tokenizer broken": (lambda f: (f / "tokenizer.json").write_text("{}"), "model_invalid", "tokenizer.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model_invalid", "safetensors"),
    "header lies": (lying_header, "model_invalid", "header"),
    "file cut": (truncated, "model_invalid", "model.safetensors"),
    "layer missing": (
        lambda f: tensors(f, lambda t: t.pop("bert.encoder.layer.1.output.dense.weight")), "model_invalid", "lack",
    ),
}  # fmt: skip


def test_an_honest_model_passes_and_its_shape_is_exact(teacher: Path, rows: dict[str, Path]) -> None:
    verdict = inspect(teacher, Data(rows["train"], rows["eval"]))
    assert verdict.ok, verdict.error
    assert verdict.rows == {"train": 400, "eval": 120}
    assert verdict.shape is not None
    model = load(teacher).model
    assert verdict.shape.parameters == sum(p.numel() for p in model.parameters())
    for matrix in verdict.shape.matrices:
        assert tuple(model.get_parameter(f"{matrix.name}.weight").shape) == (matrix.rows, matrix.cols)
    assert len(verdict.shape.matrices) == 1 + 6 * verdict.shape.layers


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_refused(name: str, folder: Path, rows: dict[str, Path]) -> None:
    change, code, says = BROKEN[name]
    change(folder)
    verdict = inspect(folder, Data(rows["train"], rows["eval"]))
    assert not verdict.ok
    assert verdict.error is not None
    assert verdict.error["code"] == code, verdict.error
    assert says in verdict.error["detail"]


@pytest.mark.parametrize(("change", "says"), [(poison, "NaN"), (
    lambda f: tensors(f, lambda t: t.pop("bert.pooler.dense.bias")), "missing_keys"),
    (lambda f: tensors(f, lambda t: t.update(extra=torch.ones(1))), "unexpected_keys")])  # fmt: skip
def test_what_only_loading_shows_is_refused_at_load(change: Break, says: str, folder: Path) -> None:
    change(folder)
    with pytest.raises(CompressionError, match=says):
        load(folder)


def test_one_class_is_refused(teacher: Path, tmp_path: Path, rows: dict[str, Path]) -> None:
    one = tiny.write_csv(tmp_path / "one.csv", [("a cat", 0), ("a dog", 0)])
    verdict = inspect(teacher, Data(one, rows["eval"]))
    assert verdict.error is not None
    assert "at least two classes" in verdict.error["detail"]


def test_pairs_in_one_file_and_single_texts_in_another_are_refused(teacher: Path, tmp_path: Path) -> None:
    single = tiny.write_csv(tmp_path / "single.csv", tiny.sentences(20, seed=1))
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("text,text_pair,label\na cat,a dog,0\n")
    verdict = inspect(teacher, Data(single, pairs))
    assert verdict.error is not None
    assert verdict.error["param"] == "/data/eval"
    assert "text_pair" in verdict.error["detail"]


def test_what_transformers_cannot_build_is_a_typed_error(folder: Path) -> None:
    edit(folder, hidden_act="melt")
    with pytest.raises(ModelInvalid, match="melt"):
        load(folder)


def test_f1_of_many_classes_is_refused(tmp_path: Path, rows: dict[str, Path]) -> None:
    model = tiny.write_model(tmp_path / "model", labels=3)
    verdict = inspect(model, Data(rows["train"], rows["eval"]), metric="f1")
    assert verdict.error is not None
    assert verdict.error["param"] == "/metric"


def test_shards_count_once_each(folder: Path) -> None:
    whole = shape_of(folder)[0]
    found = load_file(folder / "model.safetensors")
    names = sorted(found)
    halves = {"a.safetensors": names[:20], "b.safetensors": names[20:]}
    for file, part in halves.items():
        save_file({name: found[name] for name in part}, folder / file)
    (folder / "model.safetensors").unlink()
    weight_map = {name: file for file, part in halves.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert shape_of(folder)[0] == whole
