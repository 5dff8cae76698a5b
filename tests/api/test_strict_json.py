"""The JSON layer by itself: what is JSON passes, what is not is pointed at."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.strict_json import MAX_DEPTH, check

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=30,
)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.booleans())
def test_every_legal_document_passes(value: object, ascii_only: bool) -> None:
    """No false refusal, however the text is escaped."""
    assert check(json.dumps(value, ensure_ascii=ascii_only).encode()) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_raise(body: bytes) -> None:
    """Whatever comes is judged, not crashed on; and what passes is JSON that both databases store."""
    problem = check(body)
    if problem is None:
        json.dumps(json.loads(body), ensure_ascii=False, allow_nan=False).encode("utf-8")
    else:
        assert problem.status == 400


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b'{"a": [0, {"b": NaN}]}', "/a/1/b", "NaN"),
        (b'{"a": -Infinity}', "/a", "-Infinity"),
        (b'{"a": 1e999}', "/a", "1e999"),
        (b'{"a": 9223372036854775808}', "/a", "64 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "/a", "64 bits"),
        (b'{"a": "\\ud800"}', "/a", "surrogate"),
        (b'{"a": {"\\udfff": 1}}', "/a", "surrogate"),
        (b'{"a/b": {"c~d": "x\\u0000"}}', "/a~1b/c~0d", "U+0000"),
        (b'{"a": {"k": 1, "k": 2}}', "/a", '"k" appears twice'),
        (b'{"a": "\xff"}', None, "byte 7"),
        (b"\xef\xbb\xbf{}", None, "BOM"),
        (b'{"a": 1,}', None, "line 1"),
        (b"[" * 100_000, None, "deeper"),
        (b"[" * 100_000 + b"]" * 100_000, None, "deeper"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, None, "deeper"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(body: bytes, param: str | None, words: str) -> None:
    """The pointer names the place, the detail what is wrong there."""
    problem = check(body)
    assert problem is not None
    assert (problem.status, problem.code, problem.param) == (400, "json_invalid", param)
    assert words in problem.detail


def test_the_deepest_legal_nesting_passes() -> None:
    """The limit itself is legal, one more is not."""
    assert check(b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH) is None
    assert check(b"[" * (MAX_DEPTH + 1) + b"1" + b"]" * (MAX_DEPTH + 1)) is not None
