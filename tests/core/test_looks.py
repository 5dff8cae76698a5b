"""What an inspection finds beyond files that can be read: each finding where it is true, and nowhere else."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import findings
from core.data import Data, Rows
from core.errors import DataInvalid
from core.estimate import estimate
from core.findings import FINDINGS, of_error
from core.inspect import Verdict, inspect
from core.looks.budget import Budget
from core.looks.rows import look_at_repeats
from core.looks.sampling import sample_teacher
from core.looks.teacher import Sample, judge
from core.task import TASKS
from tests import tiny

PAGE = Path(__file__).parents[2] / "docs" / "preflight.md"
NAMES = [f"class {number}" for number in range(6)]


def codes(verdict: Verdict) -> set[str]:
    return {one.code for one in verdict.findings}


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == findings.page()


def test_every_code_of_an_error_in_core_is_in_the_table() -> None:
    """A misspelt code would be found by users, as `not_inspected`."""
    for file in (PAGE.parents[1] / "core").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for part in text.split('finding="')[1:]:
            assert part.split('"')[0] in FINDINGS, file


def test_a_good_verdict_has_counts_lengths_and_an_estimate(teacher: Path, rows: dict[str, Path]) -> None:
    verdict = inspect(teacher, Data(rows["train"], rows["eval"]), look_s=60)
    assert codes(verdict) == {"teacher_not_sampled"}
    assert sum(verdict.classes["train"].values()) == 400
    assert set(verdict.classes["eval"]) == {"animal", "tool"}
    length = verdict.lengths["train"]
    assert 3 <= length.p50 <= length.p90 <= length.p99 <= length.longest <= 11
    assert (length.max_tokens, length.cut) == (128, 0)
    assert verdict.estimate is not None
    assert verdict.estimate.memory_bytes > 20 * 10_000
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_what_there_was_no_time_for_is_said(teacher: Path, rows: dict[str, Path]) -> None:
    """A verdict without looks is a verdict still."""
    verdict = inspect(teacher, Data(rows["train"], rows["eval"]), look_s=0)
    assert verdict.ok
    unseen = [one for one in verdict.findings if one.code == "not_looked_at"]
    assert {one.param for one in unseen} == {"/model", "/data/train", "/data/eval"}
    assert not verdict.lengths


def test_errors_of_all_files_come_together(teacher: Path, tmp_path: Path) -> None:
    train = tiny.write_csv(tmp_path / "train.csv", [("a cat", 0), ("a saw", 7), ("", 1), ("a fox", 9)])
    graded = tiny.write_csv(tmp_path / "eval.csv", [("a cat", 0)], header=("txt", "label"))
    verdict = inspect(teacher, Data(train, graded))
    assert verdict.error is not None
    assert verdict.error["param"] == "/data/train"
    assert [(one.code, one.param, one.rows) for one in verdict.findings] == [
        ("label_unknown", "/data/train", (2, 4)),
        ("text_unusable", "/data/train", (3,)),
        ("column_missing", "/data/columns/text", ()),
    ]
    assert '"txt"' in verdict.findings[-1].detail


def test_an_error_without_a_finding_of_its_own_is_one_by_its_code() -> None:
    assert [one.code for one in of_error({"code": "model_unsafe", "detail": "d"})] == ["model_unsafe"]
    assert [one.code for one in of_error({"code": "worker_lost", "detail": "d"})] == ["not_inspected"]
    refused = DataInvalid("d", param="/data/train", finding="file_empty", rows=(3,))
    assert of_error(refused.as_dict()) == of_error(refused)


@given(st.lists(st.sampled_from(["a cat", "A  Cat ", "a dog", "\ta DOG", "a hen"]), min_size=1, max_size=9), st.data())
def test_repeats_are_rows_that_differ_in_case_and_space_alone(texts: list[str], data: st.DataObject) -> None:
    graded = data.draw(st.lists(st.sampled_from([*texts, "a fox", "a cow"]), min_size=1, max_size=9))
    roles = {"train": Rows(texts, None, [0] * len(texts)), "eval": Rows(graded, None, [0] * len(graded))}
    found = list(look_at_repeats(roles, TASKS["classification"], Budget(60)))
    plain = [[" ".join(text.lower().split()) for text in some] for some in (texts, graded)]
    common = set(plain[0]) & set(plain[1])
    firsts = tuple(sorted(plain[1].index(text) + 1 for text in common))
    assert [one.rows for one in found if one.code == "eval_in_train"] == ([firsts] if common else [])


@given(st.integers(2, 6), st.integers(0, 2**31), st.floats(0.75, 1.0))
def test_labels_in_another_order_are_told_with_that_order(classes: int, seed: int, right: float) -> None:
    """Whatever the order, unless it leaves most classes where they are."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(classes)
    truth = np.concatenate([np.arange(classes), rng.integers(0, classes, 250)])
    guess = np.where(rng.random(len(truth)) < right, order[truth], rng.integers(0, classes, len(truth)))
    found = judge(Sample(truth.tolist(), guess.tolist(), NAMES[:classes]))
    moved = [data for data in range(classes) if order[data] != data]
    accuracy = float((truth == guess).mean())
    if accuracy < 0.3:
        assert found[0].code == "labels_permuted"
        assert all(f"{data} ({NAMES[data]}) -> {order[data]} (" in found[0].detail for data in moved)
    if not moved:
        assert [one.code for one in found] == ["teacher_sampled"]


@pytest.mark.parametrize("classes", [2, 5, 150])
@pytest.mark.parametrize("constant", [True, False])
def test_a_teacher_that_knows_nothing_is_no_permuted_one(classes: int, constant: bool) -> None:
    """Chance finds an order for few rows of many classes, and one that says the same is right in some order."""
    for seed in range(20):
        rng = random.Random(seed)
        common = rng.random()
        truth = [0 if rng.random() < common else rng.randrange(classes) for _ in range(128)]
        guess = [classes - 1 if constant else rng.randrange(classes) for _ in truth]
        assert "labels_permuted" not in {
            one.code for one in judge(Sample(truth, guess, [f"{i}" for i in range(classes)]))
        }


def test_the_sample_tells_a_model_whose_classes_were_renumbered(teacher: Path, tmp_path: Path) -> None:
    """The same model with the same rows is fine where labels are as it was taught."""
    rows = tiny.sentences(200, seed=5)
    right = tiny.write_csv(tmp_path / "right.csv", rows)
    swapped = tiny.write_csv(tmp_path / "swapped.csv", [(text, 1 - label) for text, label in rows])
    assert [one.code for one in sample_teacher(teacher, Data(right, right))] == ["teacher_sampled"]
    found = sample_teacher(teacher, Data(swapped, swapped))
    assert found[0].code == "labels_permuted"
    assert "0 (animal) -> 1 (tool), 1 (tool) -> 0 (animal)" in found[0].detail


def test_an_estimate_grows_with_rows_and_texts(teacher: Path, rows: dict[str, Path]) -> None:
    shape = inspect(teacher, Data(rows["train"], rows["eval"])).shape
    assert shape is not None
    small, large = (estimate(shape, {"train": count, "eval": 10}, 20) for count in (1_000, 100_000))
    assert small.cpu_s < large.cpu_s
    assert small.memory_bytes == large.memory_bytes < estimate(shape, {"train": 9, "eval": 9}, 100).memory_bytes
    assert "nothing measured" in small.basis


def test_a_config_whose_label_maps_disagree_is_warned_of(teacher: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in teacher.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["label2id"] = {"animal": 1, "tool": 0}
    (folder / "config.json").write_text(json.dumps(config))
    assert "label_map_suspicious" in codes(inspect(folder, Data(rows["train"], rows["eval"])))
