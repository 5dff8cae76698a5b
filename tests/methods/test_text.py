"""Text beyond the labelled rows: unlabelled files, and copies with replaced tokens."""

from pathlib import Path

import numpy as np
import pytest

from core.augment import SHARE, augmented
from core.data import UNLABELLED, Columns, Data, read
from core.distill.distill import Distill
from core.errors import DataInvalid
from core.phase import Build
from core.pipeline import compress
from core.recipe import Recipe, Target
from core.shared import Shared
from tests import tiny


def test_copies_keep_the_rows_frame_length_and_share(shared: Shared) -> None:
    split = shared.train.sample(100, 0)
    more = augmented(split, 350, seed=3)
    assert len(more) == len(more.ids) == len(more.types) == 350
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(more.ids, split.ids, strict=False))
    known = {tuple(row) for row in split.ids}
    first, last = split.ids[0][0], split.ids[0][-1]
    changed = total = 0
    sources = {text: i for i, text in enumerate(split.rows.texts)}
    for row, text in zip(more.ids[100:], more.rows.texts[100:], strict=True):
        source = split.ids[sources[text]]
        assert len(row) == len(source)
        assert (row[0], row[-1]) == (first, last)
        changed += int((row != source).sum())
        total += len(row) - 2
    assert 0.5 * SHARE < changed / total < SHARE * 1.1
    assert len({tuple(row) for row in more.ids[100:]} - known) > 200


def test_enough_rows_are_left_alone_and_a_seed_repeats(shared: Shared) -> None:
    split = shared.train.sample(50, 0)
    assert augmented(split, 50, seed=0) is split
    one, two, other = (augmented(split, 90, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one.ids, two.ids, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one.ids, other.ids, strict=True))


@pytest.mark.parametrize(
    ("fields", "steps"),
    [({}, 10), ({"min_steps": 25}, 25), ({"min_steps": 5}, 10), ({"epochs": 3, "min_steps": 25}, 30)],
)
def test_few_rows_are_read_again_until_there_were_steps_enough(
    build: Build, fields: dict[str, float], steps: int
) -> None:
    """300 rows make 10 batches: longer training is never cut, shorter is filled up."""
    (phase,) = Distill.model_validate({"batch_size": 30, **fields}).compile(build)
    assert phase.steps == steps


def test_unlabelled_text_teaches_and_is_counted(teacher: Path, tmp_path: Path) -> None:
    train = tiny.write_csv(tmp_path / "train.csv", tiny.sentences(60, seed=1))
    eval_ = tiny.write_csv(tmp_path / "eval.csv", tiny.sentences(40, seed=2))
    unlabelled = tmp_path / "more.csv"
    unlabelled.write_text("text\n" + "\n".join(text for text, _ in tiny.sentences(80, seed=3)) + "\n")
    recipe = Recipe.model_validate({"steps": [{"method": "svd"}, {"method": "distill", "augment_to": 200}]})
    data = Data(train, eval_, unlabelled=unlabelled)
    report = compress(teacher, recipe, data, target=Target(parameter_ratio=1.3), out=tmp_path / "out", threads=1).report
    assert report.rows == {"train": 54, "select": 6, "eval": 40, "unlabelled": 80}
    assert report.input_hashes.keys() >= {"train", "eval", "unlabelled"}


def test_a_file_without_labels_is_read_as_such_and_refused_in_any_other_role(tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    path.write_text("text\na cat sat\n")
    assert read(path, "unlabelled", Columns(), tiny.LABELS).labels == [UNLABELLED]
    with pytest.raises(DataInvalid, match="no column 'label'"):
        read(path, "train", Columns(), tiny.LABELS)
