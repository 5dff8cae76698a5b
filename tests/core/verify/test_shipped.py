"""The numbers of verify.py are those that the report was made with."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from core.data import Columns, read
from core.task import TASKS, Metric
from core.verify.scoring import COLUMNS, read_rows, score
from tests import tiny

CLASSES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "mcc"])
@given(pairs=CLASSES)
def test_metrics_are_those_of_the_library(metric: Metric, pairs: list[tuple[int, int]]) -> None:
    truth, guess = (np.array(side) for side in zip(*pairs, strict=True))
    theirs = {
        "accuracy": sk.accuracy_score,
        "macro_f1": partial(sk.f1_score, average="macro", zero_division=0.0),
        "mcc": sk.matthews_corrcoef,
    }
    assert score("classification", metric, truth, guess) == pytest.approx(theirs[metric](truth, guess), abs=1e-12)


@given(pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60))
def test_f1_is_that_of_class_1(pairs: list[tuple[int, int]]) -> None:
    truth, guess = (np.array(side) for side in zip(*pairs, strict=True))
    theirs = sk.f1_score(truth, guess, zero_division=0.0)
    assert score("classification", "f1", truth, guess) == pytest.approx(theirs, abs=1e-12)


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
    assert read_rows(path, "classification", labels, ["a", "b", "y"]) == (ours.inputs(), ours.labels)


def test_columns_have_the_names_that_a_job_gives_them(tmp_path: Path) -> None:
    path = tiny.write_csv(tmp_path / "rows.csv", tiny.sentences(5, seed=1))
    ours = read(path, "eval", Columns(), {0: "a", 1: "b"})
    nameless = [None, None, None]
    assert read_rows(path, "classification", ["a", "b"], nameless) == (ours.inputs(), ours.labels)
    with pytest.raises(ValueError, match=r"rows\.txt: must end in \.csv"):
        read_rows(tmp_path / "rows.txt", "classification", ["a"], nameless)


def test_columns_are_called_as_in_a_job() -> None:
    assert {name: (task.text, task.text_pair, task.label) for name, task in TASKS.items()} == COLUMNS
