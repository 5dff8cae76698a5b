"""Reading labelled text: CSV, JSONL or Parquet into rows, with every refusal naming the row and the legal form.

Standard library only, except that Parquet needs pyarrow, imported where it is used. Files are hostile until read
to the end, so limits count rows and bytes as they come, never what a header promises.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from core.errors import DataInvalid
from core.labels import UNLABELLED, label_of, text_of
from core.task import TASKS, Task

FORMATS = ("csv", "jsonl", "parquet")
MAX_ROWS = 10_000_000
MAX_LINE_BYTES = 1_000_000
MAX_TEXT_BYTES = 4_000_000_000
SELECT_SHARE, SELECT_MAX = 0.10, 2_000
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
        DataInvalid: unreadable file, missing column, empty text, unknown label, no rows; with the row number.
    """
    fmt = fmt or path.suffix.lstrip(".").lower()
    nested = {*task.text, *task.label, *columns.given().values()}
    readers: dict[str, Callable[[Path, str], Iterator[dict[str, Any]]]] = {
        "csv": _csv,
        "jsonl": _jsonl,
        "parquet": partial(_parquet, nested=nested),
    }
    if fmt not in readers:
        raise DataInvalid(f"{role}: format {fmt!r} is not one of {', '.join(FORMATS)}", param=f"/data/{role}")
    texts: list[Any] = []
    pairs: list[str] = []
    ids: list[Any] = []
    names = {name: label for label, name in labels.items()}
    chosen: tuple[str, str | None, str | None] | None = None
    size = 0
    for number, row in enumerate(readers[fmt](path, role), start=1):
        if chosen is None:
            chosen = _columns(row, columns, role, task)
        text, pair, label = chosen
        cell = text
        try:
            texts.append(text_of(task, row.get(text)))
            if pair is not None:
                cell = pair
                pairs.append(text_of(task, row.get(pair)))
            if label is not None:
                cell = label
                whole = (texts[-1], pairs[-1] if pair is not None else None)
                ids.append(label_of(task, row.get(label), labels, names, whole))
        except ValueError as error:
            raise DataInvalid(f"{role}: row {number}, column {cell!r}: {error}", param=f"/data/{role}") from None
        size += len(texts[-1]) if isinstance(texts[-1], str) else sum(map(len, texts[-1]))
        size += len(pairs[-1]) if pair is not None else 0
        if number > MAX_ROWS or size > MAX_TEXT_BYTES:
            raise DataInvalid(
                f"{role}: more than {MAX_ROWS} rows or {MAX_TEXT_BYTES} characters", param=f"/data/{role}"
            )
    if not texts:
        raise DataInvalid(f"{role}: the file has no rows; at least one is needed", param=f"/data/{role}")
    return Rows(texts, pairs or None, ids or [UNLABELLED] * len(texts))


def read_roles(data: Data, labels: Mapping[int, str], task: Task = CLASSIFICATION) -> dict[str, Rows]:
    """Every file of a job by role. Raises DataInvalid, also where some files have pairs and others single texts."""
    found = {
        role: read(path, role, data.columns, labels, data.formats.get(role), task)
        for role, path in data.roles().items()
    }
    if task.name == "sentence_embedding":  # pairs are two texts to be embedded
        return found
    for role, rows in found.items():
        if (rows.pairs is None) != (found["train"].pairs is None):
            raise DataInvalid(
                f"{role} and train differ: one has a text_pair column, the other has none", param=f"/data/{role}"
            )
    return found


def split_select(train: Rows, seed: int) -> tuple[Rows, Rows]:
    """Cut the decision rows off `train`. Returns (train, select). Raises DataInvalid where none would be left."""
    if len(train) < 2:
        raise DataInvalid(
            f"train: {len(train)} row(s); at least 2 are needed, for one is held back to decide", param="/data/train"
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


def strict_json(line: str | bytes) -> Any:
    """JSON without NaN, Infinity or lone surrogates. Raises ValueError."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    value = json.loads(line, parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone surrogate fails here
    return value


def _columns(row: Mapping[str, Any], columns: Columns, role: str, task: Task) -> tuple[str, str | None, str | None]:
    """Columns of text, pair and label; the last two None where there are none."""
    have = ", ".join(sorted(map(str, row)))

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
            raise DataInvalid(
                f"{role}: no column {column!r} for {field_name}; the file has: {have}",
                param=f"/data/columns/{field_name}",
            )
    return text, pair, label


def _csv(path: Path, role: str) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", errors="strict", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            names = reader.fieldnames or []
            if len(set(names)) != len(names) or len(names) > 1_000:
                raise DataInvalid(f"{role}: column names repeat or exceed 1,000", param=f"/data/{role}")
            for row in reader:
                if None in row or None in row.values():
                    raise DataInvalid(
                        f"{role}: line {reader.line_num} has not {len(names)} fields, as the header says",
                        param=f"/data/{role}",
                    )
                yield row
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataInvalid(f"{role}: not UTF-8 CSV: {error}", param=f"/data/{role}") from None


def _jsonl(path: Path, role: str) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise DataInvalid(f"{role}: line {number} is over {MAX_LINE_BYTES} bytes", param=f"/data/{role}")
            if not line.strip():
                continue
            try:
                value = strict_json(line.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
            except (ValueError, RecursionError):
                raise DataInvalid(f"{role}: line {number} is not strict UTF-8 JSON", param=f"/data/{role}") from None
            if not isinstance(value, dict):
                raise DataInvalid(f"{role}: line {number} is not a JSON object", param=f"/data/{role}")
            yield value


def _parquet(path: Path, role: str, nested: Container[str]) -> Iterator[dict[str, Any]]:
    """Rows of plain columns, and of those of lists and structures that are called for."""
    import pyarrow as pa  # noqa: PLC0415 - keeps this module light
    from pyarrow import parquet  # noqa: PLC0415

    try:
        file = parquet.ParquetFile(path)
        wanted = [f.name for f in file.schema_arrow if f.name in nested or not pa.types.is_nested(f.type)]
        for batch in file.iter_batches(batch_size=1024, columns=wanted):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataInvalid(f"{role}: not readable as Parquet: {str(error)[:200]}", param=f"/data/{role}") from None
