"""From labelled rows and a model's outputs to answers and figures, for every task. Every artifact carries this file.

Outputs of all rows are one array: (rows, width), or (tokens of all rows, width) where a model answers token by token.
Answers, one a row:

    classification        class number
    multi_label           which labels hold, (labels,) of bool
    regression            number
    token_classification  class numbers of its words, as many as were not cut off
    question_answering    text; "" is no answer
    sentence_embedding    cosine of its two texts

Needs numpy; pyarrow where rows stand in a Parquet file.
"""

import csv
import json
import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LONGEST = 30  # tokens of an answer
CHUNK = 4096
# Names of columns that are tried in this order where none is given: text, second text, label.
COLUMNS = {
    "classification": (("text", "sentence"), ("text_pair",), ("label",)),
    "multi_label": (("text", "sentence"), ("text_pair",), ("label", "labels")),
    "regression": (("text", "sentence"), ("text_pair",), ("label", "score")),
    "token_classification": (("tokens", "words"), (), ("tags", "ner_tags", "label", "labels")),
    "question_answering": (("question",), ("context",), ("answers",)),
    "sentence_embedding": (("text", "sentence1", "sentence"), ("text_pair", "sentence2"), ("label", "score")),
}
Row = tuple[Any, str | None]  # a text, or the list of its words, and, where there is one, the second text
OUTSIDE = "O"


def read_rows(
    path: Path, task: str, labels: Sequence[str], columns: Sequence[str | None]
) -> tuple[list[Row], list[Any]]:
    """Rows of a .csv, .jsonl or .parquet file, and what is right of each, of the form of answers.

    columns: text, second text, label; None where a job was given no name.
    """
    rows: list[Row] = []
    truth: list[Any] = []
    names = {name: number for number, name in enumerate(labels)}
    chosen: list[str | None] = []
    for row in _records(path):
        if not chosen:  # the first row decides, as it does in a job
            legal = zip(columns, COLUMNS[task], strict=True)
            chosen = [given or next((name for name in tried if name in row), None) for given, tried in legal]
            needed = (0, 1, 2) if task in ("question_answering", "sentence_embedding") else (0, 2)
            chosen = [name or (COLUMNS[task][i][0] if i in needed else None) for i, name in enumerate(chosen)]
        text, pair, label = (None if name is None else row[name] for name in chosen)
        rows.append((_listed(text) if task == "token_classification" else text, pair))
        truth.append(_right(task, label, names))
    return rows, truth


def _right(task: str, label: Any, names: dict[str, int]) -> Any:
    def number(one: Any) -> int:
        return names[one] if one in names else int(one)

    if task == "classification":
        return number(label)
    if task in ("regression", "sentence_embedding"):
        return float(label)
    if task == "question_answering":
        return list((json.loads(label) if isinstance(label, str) else label)["text"])
    given = _listed(label)
    if task == "token_classification":
        return np.array([number(one) for one in given])
    found = np.zeros(len(names), dtype=bool)
    if len(given) == len(names) and all(isinstance(one, float | bool) for one in given):
        return np.array(given) == 1
    found[[number(one) for one in given]] = True
    return found


def _listed(value: Any) -> list[Any]:
    """A list, also one written as JSON or with spaces between."""
    if isinstance(value, str):
        return list(json.loads(value)) if value.lstrip().startswith("[") else value.split()
    return list(value)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        from pyarrow import parquet

        yield from parquet.read_table(path).to_pylist()
    elif suffix in (".jsonl", ".ndjson"):
        with path.open(encoding="utf-8-sig") as file:
            yield from (json.loads(line) for line in file if line.strip())
    elif suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file, strict=True)
    else:
        raise ValueError(f"{path.name}: must end in .csv, .jsonl or .parquet")


def cut_off(task: str, truth: Sequence[Any], known: Sequence[Any]) -> Any:
    """What is right, as far as texts were read: words that were cut off are not asked for."""
    if task == "token_classification":
        return [tags[place[place >= 0]] for tags, place in zip(truth, known, strict=True)]
    return truth if task == "question_answering" else np.array(truth)


def places(task: str, encoding: Any) -> Any:
    """What each token of a text is to the task; None where that does not matter.

    token_classification: (tokens,) number of the word that it begins, -1 where it begins none.
    question_answering: (tokens, 2) its first character in the context and the one behind its last, -1 outside.
    """
    if task == "token_classification":
        words = [-1 if word is None else word for word in encoding.word_ids]
        return np.array([-1 if i and word == words[i - 1] else word for i, word in enumerate(words)], dtype=np.int32)
    if task == "question_answering":
        inside = [part == 1 for part in encoding.sequence_ids]
        spans = [span if here else (-1, -1) for span, here in zip(encoding.offsets, inside, strict=True)]
        return np.array(spans, dtype=np.int32).reshape(-1, 2)
    return None


def parts(outputs: Any, known: Sequence[Any]) -> list[Any]:
    """Outputs row by row, where they are of tokens."""
    return np.split(outputs, np.cumsum([len(one) for one in known])[:-1])


def guesses(task: str, outputs: Any, known: Sequence[Any], pairs: Sequence[str | None]) -> Any:
    """Answers of rows with these `places` and second texts."""
    if task == "classification":
        return outputs.argmax(axis=1)
    if task == "multi_label":
        return outputs > 0
    if task == "regression":
        return outputs[:, 0]
    if task == "sentence_embedding":
        first, second = outputs[0::2].astype(np.float64), outputs[1::2].astype(np.float64)
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        return (first * second).sum(axis=1) / np.maximum(lengths, 1e-12)
    if task == "token_classification":
        return [one.argmax(axis=1)[place >= 0] for one, place in zip(parts(outputs, known), known, strict=True)]
    return quoted(spans(outputs, known), known, pairs)


def spans(outputs: Any, known: Sequence[Any]) -> Any:
    """First and last token of the likeliest answer, (rows, 2); -1, -1 where the first token says that there is none."""
    found = np.full((len(known), 2), -1, dtype=np.int64)
    for row, (one, place) in enumerate(zip(parts(outputs, known), known, strict=True)):
        inside = np.flatnonzero(place[:, 0] >= 0)
        if not len(inside):
            continue
        low = inside[0]
        starts, ends = (one[low : inside[-1] + 1, side].astype(np.float64) for side in (0, 1))
        padded = np.concatenate([ends, np.full(LONGEST - 1, -np.inf)])
        both = starts[:, None] + np.lib.stride_tricks.sliding_window_view(padded, LONGEST)  # (tokens, length - 1)
        first, more = np.unravel_index(both.argmax(), both.shape)
        best = first, first + more
        if starts[best[0]] + ends[best[1]] >= float(one[0, 0]) + float(one[0, 1]):
            found[row] = low + best[0], low + best[1]
    return found


def quoted(found: Any, known: Sequence[Any], pairs: Sequence[str | None]) -> list[str]:
    """The text of spans of tokens."""
    return [
        "" if last < 0 else str(context)[place[first, 0] : place[last, 1]]
        for (first, last), place, context in zip(found.tolist(), known, pairs, strict=True)
    ]


def tally(task: str, metric: str, truth: Any, guess: Any, labels: Sequence[Any] = ()) -> Any:  # noqa: PLR0911 - a case each
    """(rows, k) numbers whose sums over rows are all that `figure` needs. Not of spearman, which is of no sum.

    Truth is of the form of answers; of question_answering all answers that are right, a sequence a row.
    """
    if task == "question_answering":
        best = _overlap if metric == "f1" else _same
        return np.array([[max([best(one, said) for one in right] or [float(not said)]), 1.0]
                         for right, said in zip(truth, guess, strict=True)])  # fmt: skip
    if task == "token_classification":
        if metric == "f1":
            return np.array([_entities(*row, labels) for row in zip(truth, guess, strict=True)], dtype=np.float64)
        flat = tally("classification", metric, np.concatenate(truth), np.concatenate(guess), labels)
        edges = np.concatenate([[0], np.cumsum([len(row) for row in truth])])
        sums = np.concatenate([np.zeros((1, flat.shape[1])), flat.cumsum(axis=0)])
        return sums[edges[1:]] - sums[edges[:-1]]
    truth, guess = np.asarray(truth), np.asarray(guess)
    if metric in ("accuracy", "exact_match"):
        right = (truth == guess).all(axis=tuple(range(1, truth.ndim)))
        return np.stack([right, np.ones(len(truth))], axis=1).astype(np.float64)
    if task == "multi_label":
        each = np.stack([truth & guess, guess, truth], axis=1).astype(np.float64)  # (rows, 3, labels)
        return each.sum(axis=2) if metric == "f1" else each.reshape(len(truth), -1)
    if metric == "f1":  # of class 1
        return np.stack([(truth == 1) & (guess == 1), guess == 1, truth == 1], axis=1).astype(np.float64)
    classes = np.arange(1 + max(truth.max(initial=0), guess.max(initial=0), len(labels) - 1))
    true, said = truth[:, None] == classes, guess[:, None] == classes
    if metric == "mcc":
        parts = [(true & said).any(axis=1)[:, None], np.ones((len(truth), 1)), said, true]
        return np.concatenate(parts, axis=1).astype(np.float64)
    return np.concatenate([true & said, said, true], axis=1).astype(np.float64)


def figure(task: str, metric: str, sums: Any) -> float:
    """The metric of rows whose tallies add up to `sums`."""
    if metric == "mcc":
        right, rows = sums[:2]
        said, true = sums[2:].reshape(2, -1)
        above = right * rows - true @ said
        below = (rows**2 - true @ true) * (rows**2 - said @ said)
        return float(above / np.sqrt(below)) if below else 0.0
    if metric == "macro_f1":
        right, said, true = sums.reshape(3, -1)
        there = said + true > 0
        each = 2 * right[there] / (said + true)[there]
        return float(each.mean()) if len(each) else 0.0
    if metric == "f1" and task != "question_answering":
        return float(2 * sums[0] / (sums[1] + sums[2])) if sums[1] + sums[2] else 0.0
    return float(sums[0] / sums[1]) if sums[1] else 0.0


def score(task: str, metric: str, truth: Any, guess: Any, labels: Sequence[str] = ()) -> float:
    """`metric` of answers, in [-1, 1] or [0, 1].

    accuracy and exact_match: rows answered in full, or words of token_classification. f1: of class 1; of multi_label
    over all labels; of token_classification over entities, whose words and kind have to be right (BIO or IOBES names;
    without those each word that is not O is one); of question_answering the words shared, mean over rows (SQuAD).
    macro_f1: mean over classes that occur. mcc: of all classes. spearman: of ranks, equal values sharing theirs.
    """
    if metric == "spearman":
        return spearman(np.asarray(truth, dtype=np.float64), np.asarray(guess, dtype=np.float64))
    if task == "classification":  # many rows of many classes would be a large table
        truth, guess = np.asarray(truth), np.asarray(guess)
        names = range(1 + max(truth.max(initial=0), guess.max(initial=0)))
        cuts = range(CHUNK, len(truth), CHUNK)
        each = zip(np.split(truth, cuts), np.split(guess, cuts), strict=True)
        return figure(task, metric, sum(tally(task, metric, *chunk, names).sum(axis=0) for chunk in each))
    return figure(task, metric, tally(task, metric, truth, guess, labels).sum(axis=0))


def spearman(a: Any, b: Any) -> float:
    """Correlation of ranks; 0 where one side is all the same."""
    ranks = [ranked(side) - (len(side) + 1) / 2 for side in (a, b)]
    below = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    return float(ranks[0] @ ranks[1] / below) if below else 0.0


def ranked(values: Any) -> Any:
    """Ranks from 1; equal values have the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[place]


def _entities(truth: Any, guess: Any, labels: Sequence[str]) -> tuple[int, int, int]:
    """Entities that are right, said and true in one row."""
    true, said = (set(entities([labels[number] for number in row])) for row in (truth, guess))
    return len(true & said), len(said), len(true)


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """(kind, first word, word behind the last) of tags in BIO or IOBES; as CoNLL counts what is not well formed."""
    found: list[tuple[str, int, int]] = []
    begun: tuple[str, int] | None = None
    for place, tag in enumerate([*tags, OUTSIDE]):
        head, dash, kind = tag.partition("-")
        marked = bool(dash) and head in ("B", "I", "E", "S")
        inside = marked and head in ("I", "E") and begun is not None and begun[0] == kind
        if begun is not None and not inside:
            found.append((begun[0], begun[1], place))
            begun = None
        if tag != OUTSIDE and not inside:
            begun = (kind if marked else tag, place)
            if not marked:
                found.append((tag, place, place + 1))
                begun = None
        if marked and head in ("E", "S") and begun is not None:
            found.append((begun[0], begun[1], place + 1))
            begun = None
    return found


def _words(text: str) -> list[str]:
    """As SQuAD compares answers: lower case, no punctuation, no articles."""
    plain = "".join(char for char in text.lower() if char not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def _same(truth: str, guess: str) -> float:
    return float(_words(truth) == _words(guess))


def _overlap(truth: str, guess: str) -> float:
    right, said = _words(truth), _words(guess)
    if not right or not said:
        return float(right == said)
    shared = sum((Counter(right) & Counter(said)).values())
    return 2 * shared / (len(right) + len(said))
