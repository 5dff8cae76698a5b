"""A child's folder: what is laid out is whole, and only plain files of its own are taken out."""

import os
from pathlib import Path

import pytest

from jobs.local_store import LocalStore
from jobs.scope import DEFAULT_PROJECT
from jobs.service import InputData, InputFile, Order
from worker import protocol
from worker.workspace import OutputRefusedError, collect, lay_out


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder as a hostile child may leave it."""
    (tmp_path / "secret").write_text("s3cret")
    out = tmp_path / "child" / "out"
    (out / "0" / "pytorch").mkdir(parents=True)
    (out / "0" / "model.onnx").write_bytes(b"weights")
    (out / "0" / "pytorch" / "config.json").write_text("{}")
    (out / "0" / "link").symlink_to(tmp_path / "secret")
    (out / "0" / "folder").symlink_to(tmp_path)
    (tmp_path / "other").write_text("s3cret")
    os.link(tmp_path / "other", out / "0" / "hard")
    os.mkfifo(out / "0" / "pipe")
    (out / "1").symlink_to(tmp_path)
    return out


def point(*files: str, folder: str = "0") -> protocol.Folder:
    return protocol.Folder(dir=folder, files=list(files), report={})


def test_plain_files_are_delivered_whole(store: LocalStore, out: Path) -> None:
    """Path, size, hash and kind of each file; the bytes are in the store."""
    onnx, config = collect(store, DEFAULT_PROJECT, out, point("model.onnx", "pytorch/config.json"), 100)
    assert (onnx.path, onnx.size, onnx.media_type) == ("model.onnx", 7, "application/octet-stream")
    assert (config.path, config.media_type) == ("pytorch/config.json", "application/json")
    assert store.path(DEFAULT_PROJECT, onnx.sha256).read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("../../../secret", "0"),
        ("pytorch/../model.onnx", "0"),
        ("./model.onnx", "0"),
        ("/etc/passwd", "0"),
        ("link", "0"),
        ("folder/secret", "0"),
        ("hard", "0"),
        ("pipe", "0"),
        ("pytorch", "0"),
        ("absent", "0"),
        ("secret", "1"),
        ("secret", "../.."),
        ("passwd", "/etc"),
    ],
)
def test_nothing_else_is(store: LocalStore, out: Path, name: str, folder: str) -> None:
    """Paths and links that lead out, and what is no plain file, refuse the whole result."""
    with pytest.raises(OutputRefusedError):
        collect(store, DEFAULT_PROJECT, out, point("model.onnx" if folder == "0" else name, name, folder=folder), 100)


def test_a_result_has_a_limit(store: LocalStore, out: Path) -> None:
    """More bytes in all than allowed are refused."""
    with pytest.raises(OutputRefusedError, match="larger than 8 bytes"):
        collect(store, DEFAULT_PROJECT, out, point("model.onnx", "pytorch/config.json"), 8)


@pytest.mark.parametrize("link", [True, False])
def test_inputs_are_laid_out(store: LocalStore, tmp_path: Path, link: bool) -> None:
    """Model files under their names, data by role and format, none of it writable by its owner."""
    blob = store.put_stream(DEFAULT_PROJECT, [b"rows"], max_bytes=10)
    folder = tmp_path / "child"
    (folder / "in").mkdir(parents=True)
    data = {"train": InputData(blob.sha256, 4, "csv"), "eval": InputData(blob.sha256, 4, "jsonl")}
    order = Order(DEFAULT_PROJECT, {}, (InputFile("config.json", blob.sha256, 4),), data)
    paths = lay_out(store, order, folder, link=link)
    assert paths["formats"] == {"train": "csv", "eval": "jsonl"}
    assert paths["select"] is None
    for path in (Path(paths["model"], "config.json"), Path(paths["train"]), Path(paths["eval"])):
        assert path.read_bytes() == b"rows"
        assert path.stat().st_mode & 0o222 == 0
    assert store.path(DEFAULT_PROJECT, blob.sha256).stat().st_nlink == (4 if link else 1)
