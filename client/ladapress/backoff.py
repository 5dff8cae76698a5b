"""When a request is sent again. No clock and no socket: a decision over numbers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 8.0
SPREAD = 0.2  # above what a service asks for, so that those it sent away do not come back as one


class Backoff:
    """The waits of one request.

    Args:
        until_s: when patience ends, on the clock that `wait_s` is given.
    """

    def __init__(self, until_s: float) -> None:
        self._until_s = until_s
        self._delay_s = FIRST_DELAY_S

    def wait_s(self, now_s: float, asked_s: float | None = None) -> float | None:
        """Seconds before the next try, never fewer than `asked_s`; None where patience ends before."""
        spread = random.random()  # noqa: S311  # jitter, not a secret
        if asked_s is None:
            wait, self._delay_s = self._delay_s * (1 - spread / 2), min(2 * self._delay_s, LONGEST_DELAY_S)
        else:
            wait = asked_s + spread * SPREAD * min(asked_s, LONGEST_DELAY_S)
        return wait if now_s + wait <= self._until_s else None


def again(status: int, code: str) -> bool:
    """Whether an answer says that the service did not act and that a later try may be served."""
    return status in (429, 503) or (status == 409 and code == "idempotency_in_flight")


def asked_s(headers: Mapping[str, str]) -> float | None:
    """Seconds in `Retry-After`, which may be a date (RFC 9110 10.2.3); None where it holds neither."""
    text = headers.get("retry-after", "")
    try:
        found = float(text)
    except ValueError:
        try:
            found = (parsedate_to_datetime(text).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except ValueError:
            return None
    return max(found, 0.0) if found < float("inf") else None  # also for NaN
