"""`ladapress verify --eval` measures with this side's own copy of what artifacts carry."""

from pathlib import Path

import pytest
from ladapress import measure as measuring
from ladapress.errors import LadapressError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["shipped.py", "scoring.py"])
def test_the_copy_is_the_code_that_artifacts_carry(name: str) -> None:
    copy, shipped = ROOT / "client/ladapress" / name, ROOT / "core/verify" / name
    assert copy.read_bytes() == shipped.read_bytes(), f"run: cp {shipped.relative_to(ROOT)} {copy.relative_to(ROOT)}"


def test_what_is_not_installed_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "find_spec", lambda name: None if name in ("onnxruntime", "pyarrow") else object())
    with pytest.raises(LadapressError, match=r"onnxruntime, pyarrow not installed: pip install 'ladapress\[verify\]'"):
        measuring.measure(tmp_path, tmp_path / "rows.parquet", {})
