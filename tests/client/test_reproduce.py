"""What `ladapress reproduce` asks for, and which promise it holds a result to."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from ladapress import Client
from ladapress.compress import Order
from ladapress.display import Display
from ladapress.errors import LadapressError
from ladapress.reproduce import WITHIN, compare, differences, order, reproduce

from tests.client.artifacts import manifest, write

HARDWARE = {"device": "cpu", "cpu_flags": ["avx2"], "threads": 2, "versions": {"torch": "2"}, "machine": "here"}
SAID: dict[str, Any] = {
    "version": 2, "recipe": {"steps": [{"method": "svd", "keep": 0.5}]}, "target": {"bytes_ratio": 4.0}, "seed": 7,
    "task": "classification", "metric": "f1", "columns": {"text": "t"}, "continued": False, "hardware": HARDWARE,
    "weights_sha256": "a" * 64,
}  # fmt: skip


def made(folder: Path, student: float = 0.9, hashes: dict[str, str] | None = None, **fields: Any) -> Path:
    files = {"report.json": json.dumps({"point": {"student": student}}).encode()}
    said = manifest(files, **{**SAID, "input_hashes": hashes or {}, **fields})
    return write(folder, {**files, "manifest.json": said})


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """model, train, eval."""
    model = write(tmp_path / "model", {"config.json": b"{}", "model.safetensors": b"weights", "README.md": b"ours"})
    write(tmp_path / "data", {"train.csv": b"t,label\n", "eval.csv": b"label,t\n"})
    return {"model": model, "train": tmp_path / "data/train.csv", "eval": tmp_path / "data/eval.csv"}


@pytest.fixture
def hashes(inputs: dict[str, Path]) -> dict[str, str]:
    files = {f"model/{name}": inputs["model"] / name for name in ("config.json", "model.safetensors")}
    files |= {role: inputs[role] for role in ("train", "eval")}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def test_the_job_is_the_one_that_the_manifest_names(
    tmp_path: Path, inputs: dict[str, Path], hashes: dict[str, str]
) -> None:
    model = inputs.pop("model")
    asked = order(made(tmp_path / "a", hashes=hashes), model, inputs, tmp_path / "out")
    assert (asked.model, asked.data, asked.out, asked.columns) == (model, inputs, tmp_path / "out", {"text": "t"})
    assert asked.options == {
        "recipe": SAID["recipe"], "target": {"bytes_ratio": 4.0}, "task": "classification", "metric": "f1", "seed": 7,
        "resources": {"device": "cpu"}, "outputs": [], "cache": "bypass",
    }  # fmt: skip


def test_a_job_that_trained_nothing_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"job_id": "job_1", "cache_hit": True, "artifact_dir": str(tmp_path)}
    monkeypatch.setattr("ladapress.reproduce.run", lambda *_: (0, given))
    with Client("http://service") as client, pytest.raises(LadapressError, match="job_1 trained nothing") as refused:
        reproduce(client, Order(tmp_path, {}), tmp_path, Display())
    assert refused.value.code == "cannot_reproduce"


def test_formats_beside_the_two_are_asked_for_again(
    tmp_path: Path, inputs: dict[str, Path], hashes: dict[str, str]
) -> None:
    model = inputs.pop("model")
    folder = made(tmp_path / "a", hashes=hashes, outputs=["openvino", "onnx-fp16"])
    assert order(folder, model, inputs, tmp_path / "out").options["outputs"] == ["openvino", "onnx-fp16"]


def test_every_input_that_is_another_is_named(inputs: dict[str, Path], hashes: dict[str, str]) -> None:
    model, data = inputs["model"], {"train": inputs["train"], "eval": inputs["eval"]}
    assert differences(hashes, model, data) == []
    (model / "config.json").write_bytes(b"{ }")
    (model / "vocab.txt").write_bytes(b"more")
    found = differences({**hashes, "select": "c" * 64}, model, {"train": inputs["eval"], "unlabelled": inputs["eval"]})
    starts = sorted(line.partition(" ")[0] for line in found)
    assert starts == ["eval", "model/config.json", "model/vocab.txt", "select", "train", "unlabelled"]
    (line,) = (line for line in found if line.startswith("model/config.json"))
    assert hashlib.sha256(b"{ }").hexdigest() in line
    assert hashes["model/config.json"] in line


def test_other_inputs_and_damaged_folders_are_refused_before_anything_is_sent(
    tmp_path: Path, inputs: dict[str, Path], hashes: dict[str, str]
) -> None:
    model, data = inputs.pop("model"), inputs
    with pytest.raises(LadapressError, match="model/config") as refused:
        order(made(tmp_path / "a"), model, data, tmp_path)
    assert refused.value.code == "inputs_differ"
    damaged = made(tmp_path / "b", hashes=hashes)
    (damaged / "report.json").write_bytes(b"{}")
    with pytest.raises(LadapressError, match=r"report\.json"):
        order(damaged, model, data, tmp_path)
    old = write(tmp_path / "c", {"manifest.json": manifest({"report.json": b"{}"}), "report.json": b"{}"})
    with pytest.raises(LadapressError, match="before version 2"):
        order(old, model, data, tmp_path)


@pytest.mark.parametrize(
    ("then", "now", "promise", "kept"),
    [
        ({}, {}, "equal weights", True),
        ({}, {"weights_sha256": "b" * 64}, "equal weights", False),
        ({}, {"hardware": {**HARDWARE, "machine": "there"}}, "equal weights", True),
        ({}, {"weights_sha256": "b" * 64, "hardware": {**HARDWARE, "threads": 1}}, "metric within 0.003", True),
        ({}, {"weights_sha256": "b" * 64, "hardware": {**HARDWARE, "cpu_flags": []}}, "metric within 0.003", True),
        ({"continued": True}, {"weights_sha256": "b" * 64}, "metric within 0.003", True),
        ({"target": {"max_minutes": 5}}, {"weights_sha256": "b" * 64}, "metric within 0.003", True),
        *(
            ({"hardware": {**HARDWARE, "device": "cuda"}},
             {"weights_sha256": "b" * 64, "hardware": {**HARDWARE, "device": "cuda"}, "student": 0.9 + off},
             "metric within 0.003", kept)
            for off, kept in ((0.9 * WITHIN, True), (-0.9 * WITHIN, True), (1.1 * WITHIN, False), (-WITHIN * 2, False))
        ),
    ],
)  # fmt: skip
def test_the_promise_is_that_of_the_two_machines(
    tmp_path: Path, then: dict[str, Any], now: dict[str, Any], promise: str, kept: bool
) -> None:
    found = compare(made(tmp_path / "then", **then), made(tmp_path / "now", **now))
    assert (found.promise, found.kept) == (promise, kept)
    assert ("kept" if kept else "BROKEN") in found.line()
