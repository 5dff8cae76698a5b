"""A job through the library alone, timed by the clock; here on the CPU."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from bench import cuda
from tests import tiny


@pytest.mark.long
def test_a_row_holds_every_point_with_its_stages(tmp_path: Path) -> None:
    data, scratch = tmp_path / "toys", tmp_path / "scratch"
    data.mkdir()
    scratch.mkdir()
    for name, count in (("train", 300), ("validation", 20), ("test", 30)):
        texts, labels = zip(*tiny.sentences(count, seed=len(name)), strict=True)
        parquet.write_table(pa.table({"text": texts, "label": labels}), data / f"{name}.parquet")
    teacher = tiny.write_model(tmp_path / "model", steps=60)
    found = cuda.row(data, teacher, "ladabert-1", 0, "cpu", scratch)
    (point,) = found["points"]
    assert found["hardware"]["device"] == "cpu"
    assert point["point"]["target_met"]
    assert 0 < sum(stage["seconds"] for stage in point["stages"]) <= found["wall_s"]
