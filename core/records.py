"""The three formats of data files, row by row. Standard library only, except that Parquet needs pyarrow, imported where
it is used."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Container, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from core.errors import DataInvalid

FORMATS = ("csv", "jsonl", "parquet")
MAX_LINE_BYTES = 1_000_000
MAX_COLUMNS = 1_000


def records(path: Path, role: str, fmt: str, nested: Container[str]) -> Iterator[dict[str, Any]]:
    """Rows by column, as they stand in the file.

    Args:
        role: names the file in errors (`/data/train`).
        nested: columns whose cells may be lists or structures.

    Raises:
        DataInvalid: unknown format, or a file that is not of its own; with the line.
    """
    readers: dict[str, Callable[[Path, str], Iterator[dict[str, Any]]]] = {
        "csv": _csv,
        "jsonl": _jsonl,
        "parquet": partial(_parquet, nested=nested),
    }
    if fmt not in readers:
        raise _unreadable(role, f"format {fmt!r} is not one of {', '.join(FORMATS)}")
    return readers[fmt](path, role)


def _unreadable(role: str, detail: str, line: int | None = None) -> DataInvalid:
    rows = () if line is None else (line,)
    return DataInvalid(f"{role}: {detail}", param=f"/data/{role}", finding="file_unreadable", rows=rows)


def strict_json(line: str | bytes) -> Any:
    """JSON without NaN, Infinity or lone surrogates. Raises ValueError."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    value = json.loads(line, parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone surrogate fails here
    return value


def _csv(path: Path, role: str) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", errors="strict", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            names = reader.fieldnames or []
            if len(set(names)) != len(names) or len(names) > MAX_COLUMNS:
                raise _unreadable(role, f"column names repeat or exceed {MAX_COLUMNS:,}", 1)
            for row in reader:
                if None in row or None in row.values():
                    says = f"has not {len(names)} fields, as the header says"
                    raise _unreadable(role, f"line {reader.line_num} {says}", reader.line_num)
                yield row
    except (csv.Error, UnicodeDecodeError) as error:
        # A quote that is not closed swallows lines: the one that matters is where its row begins.
        line = _undecodable(path) if isinstance(error, UnicodeDecodeError) else reader.line_num + 1
        raise _unreadable(role, f"line {line} is not UTF-8 CSV: {error}", line) from None


def _undecodable(path: Path) -> int:
    """The first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(partial(file.readline, MAX_LINE_BYTES), b""), start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def _jsonl(path: Path, role: str) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise _unreadable(role, f"line {number} is over {MAX_LINE_BYTES} bytes", number)
            if not line.strip():
                continue
            try:
                value = strict_json(line.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
            except (ValueError, RecursionError):
                raise _unreadable(role, f"line {number} is not strict UTF-8 JSON", number) from None
            if not isinstance(value, dict):
                raise _unreadable(role, f"line {number} is not a JSON object", number)
            yield value


def _parquet(path: Path, role: str, nested: Container[str]) -> Iterator[dict[str, Any]]:
    """Rows of plain columns, and of those of lists and structures that are called for."""
    import pyarrow as pa  # noqa: PLC0415 - keeps this module light
    from pyarrow import parquet  # noqa: PLC0415

    try:
        file = parquet.ParquetFile(path)
        if len(file.schema_arrow) > MAX_COLUMNS:
            raise _unreadable(role, f"more than {MAX_COLUMNS:,} columns")
        wanted = [f.name for f in file.schema_arrow if f.name in nested or not pa.types.is_nested(f.type)]
        for batch in file.iter_batches(batch_size=1024, columns=wanted):
            yield from batch.to_pylist()
    except MemoryError:  # which Arrow's own is, too
        raise DataInvalid(
            f"{role}: the file unpacks to more than there is memory for", param=f"/data/{role}", finding="limit_reached"
        ) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(role, f"not readable as Parquet: {str(error)[:200]}") from None
