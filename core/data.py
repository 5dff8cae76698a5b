"""Reading labelled text: CSV, JSONL or Parquet into rows, with every refusal naming the row and the legal form.

Standard library only, except that Parquet needs pyarrow, imported where it is used. Files are hostile until read
to the end, so limits count rows and bytes as they come, never what a header promises.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.errors import DataInvalid

FORMATS = ("csv", "jsonl", "parquet")
MAX_ROWS = 10_000_000
MAX_LINE_BYTES = 1_000_000
MAX_TEXT_BYTES = 4_000_000_000
TEXT_DEFAULTS = ("text", "sentence")
SELECT_SHARE, SELECT_MAX = 0.10, 2_000
UNLABELLED = -1


@dataclass(frozen=True)
class Columns:
    """Column names; None takes the default: `text` or `sentence`, `text_pair` where present, `label`."""

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
    """Texts (with pairs for two-text tasks) and class ids, in file order; UNLABELLED where a row has none."""

    texts: list[str]
    pairs: list[str] | None
    labels: list[int]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Iterable[int]) -> Rows:
        chosen = list(indices)
        pairs = None if self.pairs is None else [self.pairs[i] for i in chosen]
        return Rows([self.texts[i] for i in chosen], pairs, [self.labels[i] for i in chosen])

    def __add__(self, other: Rows) -> Rows:
        pairs = None if self.pairs is None or other.pairs is None else self.pairs + other.pairs
        return Rows(self.texts + other.texts, pairs, self.labels + other.labels)

    def inputs(self) -> list[tuple[str, str | None]]:
        pairs: list[str | None] = [None] * len(self) if self.pairs is None else [*self.pairs]
        return list(zip(self.texts, pairs, strict=True))


def read(path: Path, role: str, columns: Columns, labels: Mapping[int, str], fmt: str | None = None) -> Rows:
    """Read one file; every role but "unlabelled" has labels.

    Args:
        role: "train", "eval", "select" or "unlabelled"; names the file in errors (`/data/train`).
        labels: the model's id2label. A label cell may hold an id or a name.
        fmt: one of FORMATS; from the file name's suffix where None.

    Raises:
        DataInvalid: unreadable file, missing column, empty text, unknown label, no rows; with the row number.
    """
    fmt = fmt or path.suffix.lstrip(".").lower()
    readers = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
    if fmt not in readers:
        raise DataInvalid(f"{role}: format {fmt!r} is not one of {', '.join(FORMATS)}", param=f"/data/{role}")
    texts: list[str] = []
    pairs: list[str] = []
    ids: list[int] = []
    names = {name: label for label, name in labels.items()}
    chosen: tuple[str, str | None, str | None] | None = None
    size = 0
    for number, row in enumerate(readers[fmt](path, role), start=1):
        if chosen is None:
            chosen = _columns(row, columns, role)
        text, pair, label = chosen
        texts.append(_text(row.get(text), text, number, role))
        if pair is not None:
            pairs.append(_text(row.get(pair), pair, number, role))
        ids.append(UNLABELLED if label is None else _label(row.get(label), label, number, role, labels, names))
        size += len(texts[-1])
        if number > MAX_ROWS or size > MAX_TEXT_BYTES:
            raise DataInvalid(
                f"{role}: more than {MAX_ROWS} rows or {MAX_TEXT_BYTES} characters", param=f"/data/{role}"
            )
    if not texts:
        raise DataInvalid(f"{role}: the file has no rows; at least one is needed", param=f"/data/{role}")
    return Rows(texts, pairs or None, ids)


def read_roles(data: Data, labels: Mapping[int, str]) -> dict[str, Rows]:
    """Every file of a job by role. Raises DataInvalid, also where some files have pairs and others single texts."""
    found = {
        role: read(path, role, data.columns, labels, data.formats.get(role)) for role, path in data.roles().items()
    }
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


def _columns(row: Mapping[str, Any], columns: Columns, role: str) -> tuple[str, str | None, str | None]:
    have = ", ".join(sorted(map(str, row)))
    text = columns.text or next((name for name in TEXT_DEFAULTS if name in row), TEXT_DEFAULTS[0])
    pair = columns.text_pair or ("text_pair" if "text_pair" in row else None)
    label = None if role == "unlabelled" else columns.label or "label"
    for field_name, column in (("text", text), ("text_pair", pair), ("label", label)):
        if column is not None and column not in row:
            raise DataInvalid(
                f"{role}: no column {column!r} for {field_name}; the file has: {have}",
                param=f"/data/columns/{field_name}",
            )
    return text, pair, label


def _text(value: Any, column: str, number: int, role: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataInvalid(f"{role}: row {number}, column {column!r}: text is empty or not text", param=f"/data/{role}")
    return value


def _label(value: Any, column: str, number: int, role: str, labels: Mapping[int, str], names: Mapping[str, int]) -> int:
    if isinstance(value, str):
        if value in names:
            return names[value]
        value = (
            int(value)
            if value.strip().isascii() and value.strip().removeprefix("-").isdigit() and len(value) < 19
            else value
        )
    if isinstance(value, int) and not isinstance(value, bool) and value in labels:
        return value
    legal = ", ".join(f"{i}={name}" for i, name in sorted(labels.items())[:10])
    raise DataInvalid(
        f"{role}: row {number}, column {column!r}: label {str(value)[:40]!r} is not in the model's id2label ({legal})",
        param=f"/data/{role}",
    )


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


def _parquet(path: Path, role: str) -> Iterator[dict[str, Any]]:
    import pyarrow as pa  # noqa: PLC0415 - keeps this module light
    from pyarrow import parquet  # noqa: PLC0415

    try:
        file = parquet.ParquetFile(path)
        wanted = [f.name for f in file.schema_arrow if not pa.types.is_nested(f.type)]
        for batch in file.iter_batches(batch_size=1024, columns=wanted):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataInvalid(f"{role}: not readable as Parquet: {str(error)[:200]}", param=f"/data/{role}") from None
