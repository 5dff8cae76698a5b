"""Reading labelled text: three formats agree, and every refusal names the row, the value and the legal form."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from core.data import Columns, Rows, read, split_select
from core.errors import DataInvalid

LABELS = {0: "animal", 1: "tool"}
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda text: text.strip())


def write(folder: Path, fmt: str, rows: list[dict[str, object]]) -> Path:
    path = folder / f"rows.{fmt}"
    if fmt == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif fmt == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@given(st.lists(st.tuples(TEXT, TEXT, st.sampled_from([0, 1])), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_all_formats_give_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, triples: list[tuple[str, str, int]]
) -> None:
    rows: list[dict[str, object]] = [{"text": a, "text_pair": b, "label": label} for a, b, label in triples]
    expected = Rows([a for a, _, _ in triples], [b for _, b, _ in triples], [label for _, _, label in triples])
    folder = tmp_path_factory.mktemp("formats")
    for fmt in ("csv", "jsonl", "parquet"):
        assert read(write(folder, fmt, rows), "train", Columns(), LABELS) == expected


def test_labels_may_be_ids_or_names_and_text_may_be_called_sentence(tmp_path: Path) -> None:
    path = write(tmp_path, "csv", [{"sentence": "a cat", "label": "animal"}, {"sentence": "a saw", "label": "1"}])
    assert read(path, "train", Columns(), LABELS).labels == [0, 1]


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl", [{"body": "a cat", "title": "x", "class": 0}])
    rows = read(path, "train", Columns(text="body", text_pair="title", label="class"), LABELS)
    assert rows == Rows(["a cat"], ["x"], [0])


@pytest.mark.parametrize(
    ("content", "fmt", "says", "param"),
    [
        ("text,label\na cat,0\na dog,7\n", "csv", r"row 2.*'7'.*0=animal", "/data/train"),
        ("text,label\na cat,--1\n", "csv", r"row 1.*'--1'.*0=animal", "/data/train"),
        ("text,label\n  ,0\n", "csv", r"row 1.*empty", "/data/train"),
        ("words,label\na,0\n", "csv", r"no column 'text'.*label, words", "/data/columns/text"),
        ("text,kind\na,0\n", "csv", r"no column 'label'", "/data/columns/label"),
        ("text,label\n", "csv", r"no rows", "/data/train"),
        ("", "csv", r"no rows", "/data/train"),
        ("text,label\na,0,9\n", "csv", r"line 2 has not 2 fields", "/data/train"),
        ("text,text\na,0\n", "csv", r"repeat", "/data/train"),
        ('{"text": "a", "label": NaN}\n', "jsonl", r"line 1 is not strict", "/data/train"),
        ('{"text": "\\ud800", "label": 0}\n', "jsonl", r"line 1 is not strict", "/data/train"),
        ("[1]\n", "jsonl", r"not a JSON object", "/data/train"),
        ("[" * 100_000 + "\n", "jsonl", r"line 1 is not strict", "/data/train"),
        ('{"text": "a", "label": true}\n', "jsonl", r"label 'True'", "/data/train"),
        ("not parquet", "parquet", r"Parquet", "/data/train"),
        ("x", "xlsx", r"csv, jsonl, parquet", "/data/train"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path, content: str, fmt: str, says: str, param: str) -> None:
    path = tmp_path / f"rows.{fmt}"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataInvalid, match=says) as caught:
        read(path, "train", Columns(), LABELS)
    assert caught.value.param == param


@pytest.mark.parametrize("content", [b"text,label\n\xff\xfe,0\n", "text,label\na,0\n".encode("utf-16")])
def test_text_that_is_not_utf8_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(DataInvalid):
        read(tmp_path / "rows.csv", "train", Columns(), LABELS)


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbftext,label\na cat,0\n")
    assert len(read(tmp_path / "rows.csv", "train", Columns(), LABELS)) == 1


@given(st.integers(2, 30_000), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_select_is_a_tenth_at_most_two_thousand_and_disjoint_from_train(count: int, seed: int) -> None:
    rows = Rows([str(i) for i in range(count)], None, [0] * count)
    train, select = split_select(rows, seed)
    assert len(select) == min(2000, max(1, count // 10))
    assert sorted(train.texts + select.texts) == sorted(rows.texts)
    assert split_select(rows, seed) == (train, select)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_cannot_both_teach_and_decide(count: int) -> None:
    with pytest.raises(DataInvalid, match="at least 2") as refused:
        split_select(Rows(["a"] * count, None, [0] * count), 0)
    assert refused.value.param == "/data/train"
