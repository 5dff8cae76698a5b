"""What is told of a piece of work while it runs: fields on every log line, and spans below the request that asked.

The child has no network and exports nothing: its stages are spans that begin and end as it says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobs import logs, traces


class Trail:
    """The stages of one attempt, one after the other."""

    def __init__(self, first: str | None = None) -> None:
        self._stage, self._since = first, time.time()

    def stage(self, name: str | None) -> None:
        """The running stage has ended, and `name` begins, if any does."""
        now = time.time()
        if self._stage is not None:
            traces.past(f"stage {self._stage}", self._since, now, stage=self._stage)
        self._stage, self._since = name, now


@contextmanager
def follow(
    name: str, fields: dict[str, Any], *, parent: str | None, looked: float, first: str | None = None
) -> Iterator[Trail]:
    """Until the block ends, log lines of this thread have `fields`, and a span called `name` runs.

    Args:
        parent: traceparent of the request that asked.
        looked: when the claim began, seconds since 1970.
        first: the stage that a claim begins.
    """
    bound = logs.bound(**{key: value for key, value in fields.items() if value is not None})
    with bound, traces.span(f"{name} attempt", parent=parent, **fields), logs.bound(**traces.ids()):
        traces.past(f"{name} claim", looked, time.time())
        trail = Trail(first)
        try:
            yield trail
        finally:
            trail.stage(None)
