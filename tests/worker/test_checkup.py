"""What a worker's machine tells `ladapress doctor`."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cli.doctor import findings


def test_device_threads_and_walls_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that raises them; nothing fails where this suite's own jobs run."""
    monkeypatch.setenv("LADAPRESS_DATA_DIR", str(tmp_path / "data"))
    found = list(findings())
    assert {"settings", "folders", "database", "device", "threads", "memory", "walls"} <= {one.check for one in found}
    assert not [one for one in found if one.level == "fail"], found
    assert not list(tmp_path.iterdir())
