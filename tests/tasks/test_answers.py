"""What a student is expected to retain, for every task: nothing is lost by who answers as the teacher does."""

from pathlib import Path

import numpy as np
import pytest

from core.batches import load_tokenizer, predict
from core.compare import compare
from core.data import Columns, Data, Rows, read, read_roles
from core.errors import CompressionError, DataInvalid, ModelUnsupported
from core.family import family_of
from core.model import load
from core.promise import Judge
from core.task import TASKS
from core.tasks import answers_of
from tests.tasks import made


@pytest.fixture(scope="module", params=[task for task in TASKS if task != "classification"])
def judge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Of a teacher that knows its task."""
    task, scratch = request.param, tmp_path_factory.mktemp("judge")
    folder = made.write(scratch / "model", "bert", task)
    loaded = load(folder, task)
    rows = read(made.write_rows(scratch / "r.jsonl", task, 150, 3), "eval", Columns(), loaded.labels, task=TASKS[task])
    from core.batches import Split

    split = Split.encode(load_tokenizer(folder), rows, **loaded.encoding)
    import torch

    followed = predict(loaded.model, split, torch.device("cpu"))
    return Judge(
        TASKS[task].metrics[0], answers_of(task, rows, split.places, [*loaded.labels.values()]), followed, 200, 0
    )


def test_who_answers_as_the_teacher_loses_nothing_and_noise_costs(judge: Judge) -> None:
    same = judge.of(judge.followed)
    assert same is not None
    assert (same.retention, same.agreement, same.sd) == (pytest.approx(1), 1, pytest.approx(0))
    assert same.kl == pytest.approx(0, abs=1e-9)
    rng = np.random.default_rng(0)
    far = (judge.answers.noisy(judge.followed, height, rng).astype(np.float32) for height in (0.02, 30))
    little, much = map(judge.of, far)
    assert little is not None
    assert much is not None
    assert 0 < little.kl < much.kl
    assert little.agreement > much.agreement
    assert much.retention < little.retention <= 1.05
    assert much.sd > 0


def test_near_students_are_found_and_the_teachers_expected_score_is_its_own(judge: Judge) -> None:
    nears = judge.nears()
    assert len(nears) > 5
    assert nears[0].retention > 0.9
    assert nears[-1].retention < nears[0].retention
    if judge.answers.task == "token_classification":
        return  # words are drawn one by one, which breaks entities: what is expected of both is less
    draws = [judge.answers.draw(judge.chances, np.random.default_rng(seed)) for seed in range(8)]
    theirs = judge.answers.judged(judge.followed)
    found = [judge.answers._scores(judge.metric, one, (theirs, theirs), np.arange(150))[0][0] for one in draws]
    own = judge.answers.score(judge.metric, judge.answers.guess(judge.followed))
    assert np.mean(found) == pytest.approx(own, abs=0.15)


def test_a_comparison_says_who_is_better_and_shows_rows(judge: Judge) -> None:
    rng = np.random.default_rng(0)
    far = judge.answers.noisy(judge.followed, 30, rng).astype(np.float32)
    one = compare(judge.metric, judge.followed, far, judge.answers, 0)
    assert one.only_teacher_right > one.only_student_right
    assert 0 < one.p_value < 0.7
    assert one.retention_low < one.retention_high
    assert one.retention_low < 1
    theirs, ours = map(judge.answers.guess, (judge.followed, far))
    assert one.changed == judge.answers.changed(theirs, ours).sum() >= len(one.flips) > 0
    assert all(flip.text and flip.label and flip.teacher != flip.student for flip in one.flips)
    other = compare(judge.metric, judge.followed, judge.followed, judge.answers, 0)
    assert (other.flips, other.p_value) == ((), 1.0)
    assert (other.retention_low, other.retention_high) == (pytest.approx(1), pytest.approx(1))


LABELS = {0: "O", 1: "B-A"}


@pytest.mark.parametrize(
    ("task", "row", "says"),
    [
        ("multi_label", '{"text": "a", "label": "O"}', "is no list; legal: names or numbers of the labels"),
        ("multi_label", '{"text": "a", "label": ["C"]}', r"label 'C' is not in the model's id2label \(0=O, 1=B-A\)"),
        ("regression", '{"text": "a", "label": "high"}', "label 'high' is no finite number"),
        ("token_classification", '{"tokens": ["a", "b"], "tags": ["O"]}', "1 labels for 2 words: one each is needed"),
        ("token_classification", '{"tokens": [], "tags": []}', "legal: a list of words, or words with spaces"),
        ("question_answering", '{"question": "a", "context": "b c", "answers": "c"}', r'legal: \{"text": \[...\]'),
        (
            "question_answering",
            '{"question": "a", "context": "b c", "answers": {"text": ["c"], "answer_start": [0]}}',
            "answer 'c' does not stand at character 0 of its context, 'b' does",
        ),
        ("question_answering", '{"question": "a", "answers": []}', "no column 'context' for text_pair"),
        ("sentence_embedding", '{"text": "a", "label": 1}', "no column 'text_pair' for text_pair"),
    ],
)
def test_rows_that_are_not_of_the_task_are_refused(task: str, row: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(row + "\n")
    with pytest.raises(DataInvalid, match=says):
        read(tmp_path / "rows.jsonl", "eval", Columns(), LABELS, task=TASKS[task])


@pytest.mark.parametrize("fmt", ["csv", "jsonl", "parquet"])
def test_lists_are_read_from_every_format(fmt: str, tmp_path: Path) -> None:
    """A CSV cell holds JSON, or words with spaces between."""
    import json

    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / f"rows.{fmt}"
    given = [{"tokens": ["a", "b c"], "tags": ["O", "B-A"], "deep": {"x": [1]}}]
    if fmt == "csv":
        path.write_text('tokens,tags\n"[""a"", ""b c""]",O B-A\n')
    elif fmt == "jsonl":
        path.write_text(json.dumps(given[0]) + "\n")
    else:
        parquet.write_table(pa.Table.from_pylist(given), path)
    rows = read(path, "eval", Columns(), LABELS, task=TASKS["token_classification"])
    assert rows == Rows([["a", "b c"]], None, [(0, 1)])


def test_embeddings_learn_from_texts_without_a_score(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    (tmp_path / "eval.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "score": 0.5}\n')
    found = read_roles(Data(tmp_path / "train.jsonl", tmp_path / "eval.jsonl"), {}, TASKS["sentence_embedding"])
    assert found["train"].pairs is None
    assert found["eval"].sequences().texts == ["a", "b"]


@pytest.mark.parametrize(
    ("config", "asked", "task"),
    [
        ({}, None, "classification"),
        ({}, "multi_label", "multi_label"),
        ({"problem_type": "multi_label_classification"}, None, "multi_label"),
        ({"id2label": {"0": "score"}}, None, "regression"),
        ({"problem_type": "regression"}, None, CompressionError),
        ({}, "regression", ModelUnsupported),
        ({"problem_type": "multi_label_classification"}, "classification", ModelUnsupported),
        ({"architectures": ["BertForTokenClassification"]}, "classification", ModelUnsupported),
        ({"architectures": ["BertForQuestionAnswering"]}, None, "question_answering"),
        ({"architectures": ["BertModel"]}, None, "sentence_embedding"),
        ({"architectures": ["BertForMaskedLM"]}, None, ModelUnsupported),
    ],
)
def test_the_task_is_read_from_the_config(config: dict[str, object], asked: str | None, task: object) -> None:
    given = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], **config}
    if isinstance(task, str):
        assert family_of(given, asked)[1].name == task
        return
    with pytest.raises(task) as refused:  # type: ignore[call-overload]
        family_of(given, asked)
    assert refused.value.param in ("/task", "/model")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"pooling_mode_max_tokens": True}, "pooling 'max_tokens'; legal: mean or cls"),
        ({"pooling_mode": "last"}, "'last'"),
    ],
)
def test_pooling_that_is_not_known_is_refused(settings: dict[str, object], says: str, tmp_path: Path) -> None:
    import json

    from core.inspect import shape_of

    folder = made.write(tmp_path / "model", "bert", "sentence_embedding", steps=0)
    (folder / "pooling_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelUnsupported, match=says):
        shape_of(folder)
