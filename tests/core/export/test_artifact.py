"""The manifest tells the truth about every delivered file."""

import hashlib
import json
from pathlib import Path

import zstandard

from core import transport
from core.export import artifact
from core.report import Report


def test_the_manifest_holds_size_and_sha256_of_every_other_file(tmp_path: Path) -> None:
    (tmp_path / "pytorch").mkdir()
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "pytorch/weights.safetensors").write_bytes(b"weights")
    artifact.finish(tmp_path, Report.model_construct(version=1))
    files = json.loads((tmp_path / "manifest.json").read_text())["files"]
    assert sorted(files) == ["model.onnx", "pytorch/weights.safetensors", "report.json"]
    for name, entry in files.items():
        content = (tmp_path / name).read_bytes()
        assert entry == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert sorted(artifact.sizes(tmp_path)) == sorted([*files, "manifest.json"])


def test_what_is_sent_is_one_frame_of_the_file(tmp_path: Path) -> None:
    """And its length is what the report says."""
    content = bytes(range(256)) * 9000
    (tmp_path / "model.onnx").write_bytes(content)
    with (tmp_path / "model.onnx").open("rb") as file:
        sent = b"".join(transport.encoded(file))
    assert len(sent) == artifact.bytes_sent(tmp_path / "model.onnx") < len(content)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(sent) == content
