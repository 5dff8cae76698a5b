"""The numbers of verify.py are those that the report was made with."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data import Columns, read
from core.metrics import Metric, class_score
from core.verify.shipped import measured, read_rows
from tests import tiny

CLASSES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "mcc"])
@given(pairs=CLASSES)
def test_metrics_are_those_of_the_library(metric: Metric, pairs: list[tuple[int, int]]) -> None:
    truth, guess = (np.array(side) for side in zip(*pairs, strict=True))
    assert measured(metric, truth, guess) == pytest.approx(class_score(metric, truth, guess), abs=1e-12)


@given(pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60))
def test_f1_is_that_of_class_1(pairs: list[tuple[int, int]]) -> None:
    truth, guess = (np.array(side) for side in zip(*pairs, strict=True))
    assert measured("f1", truth, guess) == pytest.approx(class_score("f1", truth, guess), abs=1e-12)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_rows_are_read_as_a_job_reads_them(tmp_path: Path, suffix: str) -> None:
    """Labels by name or number, second texts, names of columns."""
    import json

    import pyarrow as pa
    from pyarrow import parquet

    labels = ["no", "yes"]
    rows = [{"a": f"text, {i}", "b": f"pair {i}", "y": labels[i % 2] if i % 3 else str(i % 2)} for i in range(9)]
    path = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        path.write_text("a,b,y\n" + "".join(f'"{r["a"]}",{r["b"]},{r["y"]}\n' for r in rows), encoding="utf-8")
    elif suffix == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    else:
        parquet.write_table(pa.Table.from_pylist(rows), path)
    ours = read(path, "eval", Columns(text="a", text_pair="b", label="y"), dict(enumerate(labels)))
    assert read_rows(path, labels, "a", "b", "y") == (ours.inputs(), ours.labels)


def test_columns_have_the_names_that_a_job_gives_them(tmp_path: Path) -> None:
    path = tiny.write_csv(tmp_path / "rows.csv", tiny.sentences(5, seed=1))
    ours = read(path, "eval", Columns(), {0: "a", 1: "b"})
    assert read_rows(path, ["a", "b"], None, None, None) == (ours.inputs(), ours.labels)
    with pytest.raises(ValueError, match=r"rows\.txt: must end in \.csv"):
        read_rows(tmp_path / "rows.txt", ["a"], None, None, None)
