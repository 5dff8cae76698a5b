"""Cells that no library reads are refused by row, never a crash."""

import csv
import json
from pathlib import Path

import pytest

from core.data import Columns, read
from core.errors import DataInvalid
from core.task import TASKS

DEEP = "[" * 50_000
NAMES = {0: "O", 1: "B-x", 2: "I-x"}


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("regression", {"text": "a", "label": 10**400}),
        ("question_answering", {"question": "a", "context": "b", "answers": '{"text":' + DEEP}),
        ("multi_label", {"text": "a", "label": DEEP}),
        ("multi_label", {"text": "a", "label": [1, 0, 0]}),  # would be labels 0 and 1
        ("token_classification", {"tokens": DEEP, "tags": "O"}),
        ("token_classification", {"tokens": ["a"], "tags": DEEP}),
    ],
)
def test_what_no_reader_can_hold_is_refused_with_its_row(task: str, row: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataInvalid, match="row 1"):
        read(tmp_path / "train.jsonl", "train", Columns(), NAMES, task=TASKS[task])


def test_a_lone_surrogate_in_a_cell_of_words_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["tokens", "tags"], [r'["\ud800"]', "O"]])
    with pytest.raises(DataInvalid, match="row 1"):
        read(tmp_path / "train.csv", "train", Columns(), NAMES, task=TASKS["token_classification"])
