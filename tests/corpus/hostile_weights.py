"""Headers of safetensors files that lie: about lengths, places, shapes, names."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from tests.corpus import made
from tests.corpus.refusal import Refusal, of_model

NAME = "classifier.weight"


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A file whose header is any bytes."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(begin: Any = 0, end: Any = 8, shape: Any = (2,), dtype: Any = "F32", **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}


def one(says: str = "illegal", data: int = 8, **fields: Any) -> Refusal:
    """One tensor with these fields, and so many bytes of data."""
    return of_model(says, model_safetensors=made.header({NAME: entry(**fields)}, bytes(data)))


def two(says: str, first: dict[str, Any], second: dict[str, Any], data: int) -> Refusal:
    return of_model(says, model_safetensors=made.header({"a": first, "b": second}, bytes(data)))


def heavy(says: str, content: Callable[[], bytes]) -> Refusal:
    """Weights that are made when they are sent."""
    return Refusal(
        lambda desk: desk.submit(made.model(model_safetensors=content())), 422, "model_invalid", "/model", says
    )


def whole(**more: Any) -> bytes:
    """All weights of a good model, and these entries beside them."""
    good = made.weights()
    length = struct.unpack("<Q", good[:8])[0]
    header = {**json.loads(good[8 : 8 + length]), **more}
    return raw(json.dumps(header).encode(), good[8 + length :])


def big(tensors: int) -> bytes:
    """A header of so many tensors without a byte of data."""
    return raw(
        b"{" + b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % n for n in range(tensors)) + b"}"
    )


HEADERS = {
    "nothing": (b"", "header"),
    "seven bytes": (b"\x10\0\0\0\0\0\0", "header"),
    "a header of no length": (bytes(8), "strict JSON"),
    "a length of zero before a header": (raw(b"{}", length=0), "strict JSON"),
    "the largest length": (raw(b"{}", length=2**64 - 1), "header"),
    "a negative length": (raw(b"{}", length=2**63), "header"),
    "a length one beyond the file": (raw(b"{}", length=3), "header"),
    "big-endian": (struct.pack(">Q", 2) + b"{}", "header"),
    "no tensor": (raw(b"{}"), "0 tensors"),
    "metadata alone": (raw(b'{"__metadata__": {"format": "pt"}}'), "0 tensors"),
    "a list": (raw(b"[]"), "not a JSON object"),
    "a number": (raw(b"1"), "not a JSON object"),
    "null": (raw(b"null"), "not a JSON object"),
    "a text": (raw(b'"x"'), "not a JSON object"),
    "spaces": (raw(b" " * 64), "strict JSON"),
    "NUL bytes": (raw(bytes(64)), "strict JSON"),
    "JSON, then NUL bytes": (raw(b"{}" + bytes(8)), "strict JSON"),
    "two objects": (raw(b"{}{}"), "strict JSON"),
    "bytes that are no UTF-8": (raw(b'{"\xff\xfe": 1}'), "strict JSON"),
    "overlong UTF-8": (raw(b'{"\xc0\x80": 1}'), "strict JSON"),
    "UTF-16": (raw('{"a": 1}'.encode("utf-16")), "strict JSON"),
    "a byte order mark": (raw(b"\xef\xbb\xbf{}"), "strict JSON"),
    "half a surrogate pair": (raw(b'{"\\ud800": {}}'), "strict JSON"),
    "NaN": (raw(b'{"a": NaN}'), "strict JSON"),
    "objects nested without end": (raw(b'{"a":' * 100_000), "strict JSON"),
    "lists nested without end": (raw(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "strict JSON"),
    "a number of 5,000 digits": (raw(b'{"a": ' + b"9" * 5_000 + b"}"), "strict JSON"),
    "a tensor that is null": (raw(b'{"a": null}'), "illegal"),
    "a tensor that is a list": (raw(b'{"a": [1, 2, 3]}'), "illegal"),
    "a tensor that is a text": (raw(b'{"a": "F32"}'), "illegal"),
    "a tensor of nothing": (raw(b'{"a": {}}'), "illegal"),
    "a name twice": (raw(b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)), "twice"),
    "a field twice": (
        raw(b'{"a": {"dtype": "F32", "dtype": "F64", "shape": [2], "data_offsets": [0, 8]}}', bytes(8)),
        "twice",
    ),
    "a name of a thousand letters": (made.header({"x" * 1000: entry()}, bytes(8)), "illegal"),
}
DTYPES = ("F8", "F128", "f32", "F32 ", "", "object", "torch.float32", "../F32", 5, None, True, [], {}, ["F32"])
SHAPES = {
    "negative": (-2,),
    "two negative ones": (-1, -2),
    "a fraction": (2.0,),
    "a text": ("2",),
    "true": (True, 2),
    "null": None,
    "a number": 2,
    "an object": {},
    "nested": ([2],),
    "2**63": (2**63,),
    "2**64 + 2": (2**64 + 2,),
    "a product beyond 64 bits": (2**32, 2**32),
    "a product that wraps to two": (2**33, 2**31 + 1),
    "a product of zero": (0, 2**39),
    "nine dimensions": (1,) * 8 + (2,),
    "too many": (3,),
    "too few": (1,),
    "none": (),
    "a thousand dimensions": (1,) * 1000,
}
PLACES = {
    "negative": (-8, 0),
    "before the data": (-4, 4),
    "backwards": (8, 0),
    "beyond the file": (2**40, 2**40 + 8),
    "2**63": (2**63, 2**63 + 8),
    "fractions": (0.0, 8.0),
    "texts": ("0", "8"),
    "true": (False, 8),
    "null": (None, 8),
    "too long": (0, 12),
    "too short": (0, 4),
}

HOSTILE: dict[str, Refusal] = {
    **{f"a header of {what}": of_model(says, model_safetensors=content) for what, (content, says) in HEADERS.items()},
    **{f"a dtype that is {dtype!r}": one(dtype=dtype) for dtype in DTYPES},
    **{f"a shape: {what}": one(shape=shape) for what, shape in SHAPES.items()},
    **{f"offsets: {what}": one(begin=begin, end=end) for what, (begin, end) in PLACES.items()},
    "offsets: three": of_model(
        "illegal", model_safetensors=made.header({NAME: {**entry(), "data_offsets": [0, 4, 8]}}, bytes(8))
    ),
    "offsets: none": of_model(
        "illegal", model_safetensors=made.header({NAME: {"dtype": "F32", "shape": [2]}}, bytes(8))
    ),
    "offsets: a text": of_model(
        "illegal", model_safetensors=made.header({NAME: {**entry(), "data_offsets": "08"}}, bytes(8))
    ),
    "a hole before the data": one("hole", begin=8, end=16, data=16),
    "a hole in the data": two("hole", entry(), entry(16, 24), 24),
    "the same bytes twice": two("overlaps", entry(), entry(), 8),
    "one tensor within another": two("overlaps", entry(0, 16, (4,)), entry(4, 12), 16),
    "data that no tensor names": one("bytes of data", data=64),
    "data that is not there": one("bytes of data", data=4),
    "a gigabyte in a file of no data": one("bytes of data", end=2**30, shape=(2**28,), data=0),
    "metadata that is a list": of_model("__metadata__", model_safetensors=whole(__metadata__=[])),
    "metadata of numbers": of_model("__metadata__", model_safetensors=whole(__metadata__={"a": 1})),
    "metadata nested": of_model("__metadata__", model_safetensors=whole(__metadata__={"a": {"b": "c"}})),
    "a weight called by a path": of_model("U+0000", model_safetensors=whole(**{"../../a\0b": entry(0, 0, (0,))})),
}
HEAVY: dict[str, Refusal] = {
    "a header of 16 MB of lists": heavy("strict JSON", lambda: raw(b'{"a":' + b"[" * ((16 << 20) - 5))),
    "a header of 16 MB of names": heavy("tensors", lambda: big(300_000)),
    "a header beyond 16 MB": heavy("header", lambda: raw(b" " * ((16 << 20) + 1))),
}
