"""Reading labelled text: CSV, JSONL or Parquet into rows, with every refusal naming the row and the legal form.

Standard library only. Files are hostile until read to the end, so limits count rows and bytes as they come, never what
a header promises.
"""

from __future__ import annotations

import difflib
import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.errors import DataInvalid, as_finding
from core.labels import UNLABELLED, UnknownLabel, label_of, text_of
from core.records import records
from core.task import TASKS, Task

MAX_ROWS = 10_000_000
MAX_TEXT_BYTES = 4_000_000_000
# What rows may take of memory: so much, and so many times the bytes of their file. Parquet repeats a text for nothing.
FREE_BYTES, GROWTH, ROW_BYTES = 32 << 20, 100, 64
SELECT_SHARE, SELECT_MAX = 0.10, 2_000
MAX_FAULTS = 100  # rows at fault, after which a file is not read on
FIRST_FAULTS = 5  # of them that are named
NAMED = 40  # columns that a message spells out
CLASSIFICATION = TASKS["classification"]


@dataclass(frozen=True)
class Columns:
    """Column names; None takes the first of the task's own names that the file has (`core.task`)."""

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None

    def given(self) -> dict[str, str]:
        """Role -> name, of those that have one."""
        return {role: name for role, name in asdict(self).items() if name is not None}


@dataclass(frozen=True)
class Data:
    """The files of one job by role. `select` is cut from `train` where it is not given."""

    train: Path
    eval: Path
    select: Path | None = None
    unlabelled: Path | None = None
    columns: Columns = Columns()
    formats: Mapping[str, str] = field(default_factory=dict)  # role -> format; the file name's suffix where absent

    def roles(self) -> dict[str, Path]:
        given = {"train": self.train, "eval": self.eval, "select": self.select, "unlabelled": self.unlabelled}
        return {role: path for role, path in given.items() if path is not None}


@dataclass(frozen=True)
class Rows:
    """Texts (with pairs for two-text tasks) and labels as `core.labels` has them, in file order.

    Texts of token classification are lists of words. UNLABELLED where a row has no label.
    """

    texts: list[Any]
    pairs: list[str] | None
    labels: list[Any]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Iterable[int]) -> Rows:
        chosen = list(indices)
        pairs = None if self.pairs is None else [self.pairs[i] for i in chosen]
        return Rows([self.texts[i] for i in chosen], pairs, [self.labels[i] for i in chosen])

    def __add__(self, other: Rows) -> Rows:
        pairs = None if self.pairs is None or other.pairs is None else self.pairs + other.pairs
        return Rows(self.texts + other.texts, pairs, self.labels + other.labels)

    def sequences(self) -> Rows:
        """Texts and pairs one after the other, each a row without a label; as it is where none has a pair."""
        if self.pairs is None:
            return self
        texts = [text for both in zip(self.texts, self.pairs, strict=True) for text in both]
        return Rows(texts, None, [UNLABELLED] * len(texts))

    def inputs(self) -> list[tuple[Any, str | None]]:
        pairs: list[str | None] = [None] * len(self) if self.pairs is None else [*self.pairs]
        return list(zip(self.texts, pairs, strict=True))


def read(
    path: Path,
    role: str,
    columns: Columns,
    labels: Mapping[int, str],
    fmt: str | None = None,
    task: Task = CLASSIFICATION,
) -> Rows:
    """Read one file; every role but "unlabelled" has labels, "train" of sentence embedding where the file has some.

    Args:
        role: "train", "eval", "select" or "unlabelled"; names the file in errors (`/data/train`).
        labels: the model's id2label. A label cell may hold an id or a name.
        fmt: one of FORMATS; from the file name's suffix where None.

    Raises:
        DataInvalid: unreadable file, missing column, empty text, unknown label, no rows; with the row numbers.
    """
    fmt = fmt or path.suffix.lstrip(".").lower()
    nested = {*task.text, *task.label, *columns.given().values()}
    texts: list[Any] = []
    pairs: list[str] = []
    ids: list[Any] = []
    names = {name: label for label, name in labels.items()}
    chosen: tuple[str, str | None, str | None] | None = None
    faults = _Faults(role)
    size, most = 0, FREE_BYTES + GROWTH * path.stat().st_size
    for number, row in enumerate(records(path, role, fmt, nested), start=1):
        if chosen is None:
            chosen = _columns(row, columns, role, task)
        text, pair, label = chosen
        cell, kind = text, "text_unusable"
        try:
            texts.append(text_of(task, row.get(text)))
            if pair is not None:
                cell = pair
                pairs.append(text_of(task, row.get(pair)))
            if label is not None:
                cell, kind = label, "label_unusable"
                whole = (texts[-1], pairs[-1] if pair is not None else None)
                ids.append(label_of(task, row.get(label), labels, names, whole))
        except ValueError as error:
            faults.add(number, cell, "label_unknown" if isinstance(error, UnknownLabel) else kind, error)
            if faults.enough():
                break
            continue
        size += len(texts[-1]) if isinstance(texts[-1], str) else sum(map(len, texts[-1]))
        size += len(pairs[-1]) if pair is not None else 0
        if number > MAX_ROWS or size > MAX_TEXT_BYTES:
            raise DataInvalid(
                f"{role}: more than {MAX_ROWS} rows or {MAX_TEXT_BYTES} characters",
                param=f"/data/{role}",
                finding="limit_reached",
            )
        if size + ROW_BYTES * number > most:
            raise DataInvalid(
                f"{role}: the rows take more than {GROWTH} times the bytes of their file, as far as row {number}",
                param=f"/data/{role}",
                finding="limit_reached",
            )
    faults.refuse()
    if not texts:
        raise DataInvalid(
            f"{role}: the file has no rows; at least one is needed", param=f"/data/{role}", finding="file_empty"
        )
    return Rows(texts, pairs or None, ids or [UNLABELLED] * len(texts))


class _Faults:
    """Rows of one file that cannot be used, by what is wrong with them."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._found: dict[str, tuple[str, list[int]]] = {}
        self._count = 0

    def add(self, number: int, cell: str, kind: str, error: ValueError) -> None:
        self._count += 1
        self._found.setdefault(kind, (f"row {number}, column {cell!r}: {error}", []))[1].append(number)

    def enough(self) -> bool:
        return self._count >= MAX_FAULTS

    def refuse(self) -> None:
        """Raises DataInvalid where there are any: the sentence is of the first row, `errors` of each kind."""
        if not self._found:
            return
        param = f"/data/{self._role}"
        more = " or more" if self.enough() else ""
        errors = tuple(
            as_finding(
                kind,
                f"{self._role}: {first}" + (f"; so are {len(rows)} rows{more}" if len(rows) > 1 else ""),
                param,
                tuple(rows[:FIRST_FAULTS]),
            )
            for kind, (first, rows) in self._found.items()
        )
        raise DataInvalid(errors[0]["detail"], param=param, errors=errors)


def read_roles(data: Data, labels: Mapping[int, str], task: Task = CLASSIFICATION) -> dict[str, Rows]:
    """Every file of a job by role. Raises DataInvalid, also where some files have pairs and others single texts."""
    found = {
        role: read(path, role, data.columns, labels, data.formats.get(role), task)
        for role, path in data.roles().items()
    }
    check_alike(found, task)
    return found


def check_alike(roles: Mapping[str, Rows], task: Task) -> None:
    """Raises DataInvalid where some files have pairs and others single texts; of embeddings pairs are two texts."""
    for role, rows in roles.items() if task.name != "sentence_embedding" else ():
        if (rows.pairs is None) != (roles["train"].pairs is None):
            raise DataInvalid(
                f"{role} and train differ: one has a text_pair column, the other has none",
                param=f"/data/{role}",
                finding="columns_differ",
            )


def split_select(train: Rows, seed: int) -> tuple[Rows, Rows]:
    """Cut the decision rows off `train`. Returns (train, select). Raises DataInvalid where none would be left."""
    if len(train) < 2:
        raise DataInvalid(
            f"train: {len(train)} row(s); at least 2 are needed, for one is held back to decide",
            param="/data/train",
            finding="rows_too_few",
        )
    rest, chosen = split_indices(len(train), seed)
    return train.take(rest), train.take(chosen)


def select_count(rows: int) -> int:
    """How many rows decide where none are given for that: 10 % of those that train, at most 2,000, at least one."""
    return min(SELECT_MAX, max(1, int(SELECT_SHARE * rows)))


def split_indices(rows: int, seed: int) -> tuple[list[int], list[int]]:
    """Numbers of the rows that train and of those that decide, which are seeded."""
    chosen = set(random.Random(seed).sample(range(rows), select_count(rows)))  # noqa: S311 - a split, not a secret
    return [i for i in range(rows) if i not in chosen], sorted(chosen)


def digest(path: Path) -> str:
    """sha256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _columns(row: Mapping[str, Any], columns: Columns, role: str, task: Task) -> tuple[str, str | None, str | None]:
    """Columns of text, pair and label; the last two None where there are none."""
    names = sorted(map(str, row))
    have = ", ".join(name[:80] for name in names[:NAMED]) + (" ..." if len(names) > NAMED else "")

    def named(given: str | None, legal: tuple[str, ...]) -> str | None:
        return given or next((name for name in legal if name in row), None)

    text = named(columns.text, task.text) or task.text[0]
    if columns.text_pair is not None and not task.text_pair:
        raise DataInvalid(f"task {task.name!r} has no second text: leave it out", param="/data/columns/text_pair")
    pair = named(columns.text_pair, task.text_pair)
    label = None if role == "unlabelled" else named(columns.label, task.label)
    embedding = task.name == "sentence_embedding"
    if task.name == "question_answering" or (embedding and role in ("eval", "select")):
        pair = pair or task.text_pair[0]
    if role != "unlabelled" and not (embedding and role == "train"):
        label = label or task.label[0]
    if embedding and pair is None:
        label = None
    for field_name, column in (("text", text), ("text_pair", pair), ("label", label)):
        if column is not None and column not in row:
            nearest = _nearest(column, getattr(task, field_name), row)
            raise DataInvalid(
                f"{role}: no column {column!r} for {field_name}; the file has: {have}"
                + (f'; for {nearest!r} say data.columns.{field_name}: "{nearest}"' if nearest else ""),
                param=f"/data/columns/{field_name}",
                finding="column_missing",
            )
    return text, pair, label


def _nearest(asked: str, legal: Iterable[str], row: Mapping[str, Any]) -> str | None:
    """The column whose name is most like one of those that would have been taken."""
    have = {str(name).strip().casefold(): str(name) for name in row}
    for name in (asked, *legal):
        if close := difflib.get_close_matches(name.casefold(), have, n=1, cutoff=0.7):
            return have[close[0]]
    return None
