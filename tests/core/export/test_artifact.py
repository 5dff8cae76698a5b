"""What of an artifact is sent."""

from pathlib import Path

import zstandard

from core import transport
from core.export import artifact


def test_what_is_sent_is_one_frame_of_the_file(tmp_path: Path) -> None:
    """And its length is what the report says."""
    content = bytes(range(256)) * 9000
    (tmp_path / "model.onnx").write_bytes(content)
    with (tmp_path / "model.onnx").open("rb") as file:
        sent = b"".join(transport.encoded(file))
    assert len(sent) == artifact.bytes_sent(tmp_path / "model.onnx") < len(content)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(sent) == content
