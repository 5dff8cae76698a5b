"""A command line that cannot be right: exit code 2, the legal form on stderr, nothing sent, nothing made."""

from __future__ import annotations

from pathlib import Path

import pytest
from ladapress import Client

from tests.client.command import Captured, call, compress, uploads_of
from tests.client.conftest import ROOT, Inputs, Service
from tests.client.hand import SUCCEED


@pytest.mark.parametrize(
    ("change", "legal"),
    [
        (("--target", "size=3"), "parameter_ratio, bytes_ratio"),
        (("--target", "bytes_ratio=0.5"), "greater than 1"),
        (("--target", "bytes_ratio"), "NAME=VALUE"),
        (("--target", "bytes_ratio=2", "--target", "bytes_ratio=3"), "given twice"),
        (("--ladder", "5,10"), "NAME=VALUE,VALUE"),
        (("--ladder", "size=5,10"), "parameter_ratio, bytes_ratio"),
        (("--ladder", "parameter_ratio=5,x"), "valid number"),
        (("--ladder", "parameter_ratio=0.5,5"), "greater than 1"),
        (("--ladder", "parameter_ratio=10,5"), "must rise"),
        (("--preset", "nosuch"), "must be one of"),
        (("--recipe", "r.toml"), "exactly one of --preset NAME and --recipe FILE"),
        (("--metric", "auc"), "accuracy, macro_f1"),
        (("--output", "gguf"), "onnx-fp16, onnx-int8, openvino, torch-export"),
        (("--output", "openvino", "--output", "openvino"), "each once"),
        (("--task", "summarization"), "classification"),
        (("--device", "tpu"), "cpu, cuda, auto"),
        (("--train", "nosuch.csv"), "nosuch.csv is not a file"),
        (("--eval", "pyproject.toml"), ".csv, .jsonl"),
        (("--out", "pyproject.toml"), "name a folder"),
        (("--seed", "-1"), "greater than or equal to 0"),
        (("--nosuch",), "--nosuch"),
    ],
)
def test_bad_usage_is_code_2_names_the_legal_form_and_sends_nothing(
    service: Service,
    client: Client,
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    change: tuple[str, ...],
    legal: str,
) -> None:
    monkeypatch.chdir(ROOT)
    before = uploads_of(client)
    assert call(monkeypatch, service.url, *compress(inputs, tmp_path / "out", SUCCEED, *change)) == 2
    assert legal in capsys.readouterr().err
    assert uploads_of(client) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("breakage", "said"),
    [
        (lambda model: (model / "config.json").unlink(), "no config.json"),
        (lambda model: (model / "model.safetensors").rename(model / "pytorch_model.bin"), "pickles run code"),
    ],
)
def test_a_folder_that_is_no_model_is_code_2(
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    breakage: object,
    said: str,
) -> None:
    assert callable(breakage)
    breakage(inputs.model)
    assert call(monkeypatch, "http://127.0.0.1:9", *compress(inputs, tmp_path / "out", SUCCEED)) == 2
    assert said in capsys.readouterr().err


def test_a_recipe_with_an_unknown_method_is_code_2_and_names_the_methods(
    service: Service,
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"steps": [{"method": "magic"}]}')
    files = ["--train", inputs.train, "--eval", inputs.eval, "--out", tmp_path / "out"]
    assert call(monkeypatch, service.url, "compress", inputs.model, *files, "--recipe", recipe) == 2
    assert "'magic' must be one of" in capsys.readouterr().err


def test_an_address_without_http_is_code_2(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    assert call(monkeypatch, "127.0.0.1:8642", *compress(inputs, tmp_path / "out", SUCCEED)) == 2
    assert "must be http://HOST:PORT" in capsys.readouterr().err
