"""The lines between child and worker: everything said arrives, nothing malformed does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import protocol

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=50)
PROGRESS = {"type": "progress", "stage": "distill", "fraction": 0.5, "step": 1, "steps": 2}


@given(ANY_TEXT, ANY_TEXT)
def test_whatever_an_error_quotes_it_arrives(detail: str, value: str) -> None:
    """NUL and lone surrogates, which no database takes, are replaced; the rest of the line is kept."""
    error = {"code": "data_invalid", "detail": detail, "param": "/data", "errors": [{"detail": value}]}
    event = protocol.parse(protocol.render({"type": "error", **error, "retryable": False}).rstrip(b"\n"))
    assert isinstance(event, protocol.Failed)
    assert len(event.detail) >= len(detail)
    stored = json.dumps(event.model_dump(), ensure_ascii=False)
    assert "\\u0000" not in stored
    stored.encode("utf-8")


@given(st.floats())
def test_a_metric_arrives_whatever_its_value(value: float) -> None:
    """NaN and infinities arrive as None, every other value as it is."""
    line = protocol.render({"type": "metric", "name": "loss", "value": value, "step": 3})
    event = protocol.parse(line.rstrip(b"\n"))
    assert isinstance(event, protocol.Metric)
    assert event.value == value or event.value is None
    assert (event.value is None) == (value in (float("inf"), float("-inf")) or value != value)  # noqa: PLR0124 - NaN


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"type": "unknown"}',
        b'{"type": "stage"}',
        b'{"type": "stage", "stage": "x", "more": 1}',
        b'{"type": "stage", "stage": "' + b"x" * 41 + b'"}',
        b'{"type": "stage", "stage": "a\\u0000b"}',
        b'{"type": "stage", "stage": "\\ud800"}',
        b'{"type": "stage", "stage": "\xff"}',
        json.dumps({**PROGRESS, "fraction": 1.5}).encode(),
        json.dumps({**PROGRESS, "fraction": float("nan")}).encode(),
        json.dumps({**PROGRESS, "step": -1}).encode(),
        json.dumps({**PROGRESS, "step": "1"}).encode(),
        b'{"type": "result", "report": {}, "points": []}',
        b'{"type": "verdict", "verdict": {"ok": true, "shape": {"parameters": "many"}}}',
    ],
)
def test_what_does_not_fit_is_dropped(line: bytes) -> None:
    """A line of another shape, type, range or encoding is no event."""
    assert protocol.parse(line) is None
    assert protocol.parse(json.dumps(PROGRESS).encode()) is not None
