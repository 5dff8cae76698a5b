"""Pooling files that are not what they should be are refused, never a crash."""

from pathlib import Path

import pytest

from core.errors import ModelInvalid, ModelUnsupported
from core.pooling import pooling_of


@pytest.mark.parametrize("content", [b"5", b"null", b"{bad", b"\xff", b"{}", b"[" * 100_000])
def test_modules_that_are_no_list(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_bytes(content)
    with pytest.raises(ModelInvalid, match=r"modules\.json"):
        pooling_of(tmp_path)


def test_a_mode_that_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "pooling_config.json").write_text('{"pooling_mode": ["mean"]}')
    with pytest.raises(ModelUnsupported, match="pooling"):
        pooling_of(tmp_path)
