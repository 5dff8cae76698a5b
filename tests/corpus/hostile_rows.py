"""Files of rows that take more than they are, or are not what they say."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
from pyarrow import feather, parquet

from tests.corpus import made
from tests.corpus.refusal import Content, Refusal, of_bytes, of_rows

HEAD = b"text,label\nthe cat,0\n"
MB = 1 << 20


def column(values: Any, labels: Any = None, **options: Any) -> bytes:
    """A Parquet file of two columns."""
    out = io.BytesIO()
    table = pa.table(
        {
            "text": values,
            "label": labels if labels is not None else pa.array([0, 1] * (len(values) // 2 + 1))[: len(values)],
        }
    )
    parquet.write_table(table, out, **options)
    return out.getvalue()


def repeated(text: str, rows: int, **options: Any) -> bytes:
    """The same text in so many rows, which takes next to nothing."""
    values = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))
    return column(values, pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int8()), pa.array([0])), **options)


def patched(good: bytes, at: int, new: bytes) -> bytes:
    """The same file with other bytes in one place; from the end where that is negative."""
    at %= len(good)
    return good[:at] + new + good[at + len(new) :]


def rows_of(
    says: str, content: Content, format_: str = "csv", finding: str = "file_unreadable", rows: tuple[int, ...] = ()
) -> Refusal:
    return of_rows(says, finding, content, rows, format_)


def line(says: str, text: bytes, finding: str = "file_unreadable") -> Refusal:
    """A second line of JSON after a good one."""
    return of_rows(says, finding, b'{"text": "the cat", "label": 0}\n' + text + b"\n", (2,), "jsonl")


def sent(what: str, content: bytes, media: str) -> Refusal:
    """Refused as it is sent, by what it says that it is."""
    return Refusal(
        lambda desk: desk.submit(train=content, format_=media), 415, "unsupported_media_type", None, "text/csv"
    )


GOOD = made.as_parquet(made.rows(60))
FOOTER = int.from_bytes(GOOD[-8:-4], "little")
ARROW = io.BytesIO()
feather.write_feather(pa.table({"text": ["a"], "label": [0]}), ARROW)

HOSTILE: dict[str, Refusal] = {
    **{
        f"{what}, called CSV": of_bytes(says, content)
        for what, (content, says) in {
            "a pickle": (b"\x80\x04\x95" + bytes(60), "pickle"),
            "a zip": (b"PK\x03\x04" + bytes(60), "zip"),
            "a program": (b"\x7fELF" + bytes(60), "program"),
            "HDF5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
            "gzip": (b"\x1f\x8b\x08" + bytes(60), "gzip"),
            "Parquet": (GOOD, "Parquet"),
            "Arrow": (ARROW.getvalue(), "binary"),
            "UTF-16 from its other end": ("text,label\n".encode("utf-16-be"), "binary"),
            "UTF-32": ("text,label\n".encode("utf-32"), "UTF-16"),
            "a tar": (b"a.csv" + bytes(600), "binary"),
        }.items()
    },
    **{
        f"rows as {media}": sent(media, HEAD, media)
        for media in (
            "application/zip",
            "application/x-tar",
            "application/gzip",
            "application/x-python-pickle",
            "application/octet-stream",
            "multipart/form-data; boundary=x",
            "text/html",
        )
    },
    # CSV
    "a cell of 200 kB": rows_of("field larger", HEAD + b"x" * 200_000 + b",1\n", rows=(3,)),
    "a quote that never ends in a megabyte": rows_of("field larger", HEAD + b'"' + b"x\n" * (MB // 2), rows=(3,)),
    "a header of a million columns": rows_of("1,000", b",".join(b"c%d" % n for n in range(300_000)) + b"\n", rows=(1,)),
    "a row of a million cells": rows_of("fields", HEAD + b"," * 500_000 + b"\n", rows=(3,)),
    "NUL in the middle of CSV": rows_of("", HEAD + b"x" * 99 + b"\0,1\n", rows=(3,), finding="text_unusable"),
    "bytes that are no UTF-8": rows_of("UTF-8", HEAD + b"\xc0\x80,1\n", rows=(3,)),
    "a surrogate in UTF-8": rows_of("UTF-8", HEAD + b"\xed\xa0\x80,1\n", rows=(3,)),
    "a label of 5,000 digits": rows_of(
        "label", HEAD + b"a," + b"9" * 5_000 + b"\n", rows=(2,), finding="label_unknown"
    ),
    "a label of a formula": rows_of(
        "label", HEAD + b'a,"=HYPERLINK(""http://127.0.0.1"")"\n', rows=(2,), finding="label_unknown"
    ),
    # JSON lines
    "a line of two megabytes": line("over", b'{"text": "' + b"x" * (2 * MB) + b'"}'),
    "a line without an end": rows_of("over", b'{"text": "' + b"x" * (3 * MB), "jsonl", rows=(1,)),
    "a line nested in lists": line("line 2", b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a line nested in objects": line("line 2", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "a line with Infinity": line("line 2", b'{"text": "a", "label": Infinity}'),
    "a line with 1e999": line("label", b'{"text": "a", "label": 1e999}', "label_unknown"),
    "a line with 5,000 digits": line("line 2", b'{"text": "a", "label": ' + b"9" * 5_000 + b"}"),
    "a line with half a surrogate pair": line("line 2", b'{"text": "\\ud800", "label": 0}'),
    "a line with half a surrogate pair in a key": line("line 2", b'{"\\udc00": 1, "text": "a", "label": 0}'),
    "a line with bytes that are no UTF-8": line("line 2", b'{"text": "\xff", "label": 0}'),
    "a line with U+0000": line("U+0000", b'{"text": "a\\u0000", "label": 0}', "text_unusable"),
    "a line with a mark in the middle": line("line 2", b' \xef\xbb\xbf{"text": "a", "label": 0}'),
    "a text that is an object": line("text", b'{"text": {"__class__": "x"}, "label": 0}', "text_unusable"),
    "a label that is an object": line("label", b'{"text": "a", "label": {"x": []}}', "label_unknown"),
    "a label that is a list": line("label", b'{"text": "a", "label": [0]}', "label_unknown"),
    "one array of everything": rows_of("not a JSON object", json.dumps(made.rows(9)).encode(), "jsonl", rows=(1,)),
    # Parquet
    "Parquet without its end": rows_of("Parquet", GOOD[:-9], "parquet"),
    "Parquet of a head alone": rows_of("Parquet", b"PAR1", "parquet"),
    "Parquet of nothing between": rows_of("Parquet", b"PAR1" * 2, "parquet"),
    "Parquet with a footer beyond the file": rows_of(
        "Parquet", patched(GOOD, -8, (2**31 - 1).to_bytes(4, "little")), "parquet"
    ),
    "Parquet with a negative footer": rows_of("Parquet", patched(GOOD, -8, b"\xff\xff\xff\xff"), "parquet"),
    "Parquet with a footer of nothing": rows_of("Parquet", patched(GOOD, -8, bytes(4)), "parquet"),
    "Parquet that says it is encrypted": rows_of("Parquet", GOOD[:-4] + b"PARE", "parquet"),
    "Parquet with a footer of noise": rows_of(
        "Parquet", patched(GOOD, -8 - FOOTER, bytes(range(256)) * 2)[: len(GOOD) - 8] + GOOD[-8:], "parquet"
    ),
    "Parquet with pages of noise": rows_of("Parquet", patched(GOOD, 4, b"\xff" * 64), "parquet"),
    "Parquet of one text of 200 MB": rows_of(
        "memory", lambda: column(["a" * (200 * MB)] * 2, compression="zstd"), "parquet", "limit_reached"
    ),
    "Parquet of a text of 10 MB, thousands of times": rows_of(
        "memory", lambda: repeated("a" * (10 * MB), 5_000), "parquet", "limit_reached"
    ),
    "Parquet of a short text, ten million times": rows_of(
        "times the bytes", lambda: repeated("the cat", 10_000_000), "parquet", "limit_reached"
    ),
    "Parquet of ten thousand columns": rows_of(
        "1,000", lambda: made.as_parquet([{f"c{n}": n for n in range(10_000)}]), "parquet"
    ),
}
HEAVY: dict[str, Refusal] = {
    "a cell of 100 MB": rows_of("field larger", lambda: HEAD + b"x" * (100 * MB) + b",1\n", rows=(3,)),
    "a quote that never ends in 100 MB": rows_of("field larger", lambda: HEAD + b'"' + b"x\n" * (50 * MB), rows=(3,)),
    "a line of 200 MB": rows_of("over", lambda: b'{"text": "' + b"x" * (200 * MB), "jsonl", rows=(1,)),
}
