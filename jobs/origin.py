"""Where a row comes from: the request that is being answered, known to whatever runs on its behalf.

The API sets it; the columns `request_id` of `jobs.tables` take it as their default, so no function has to hand it on.
"""

from __future__ import annotations

from contextvars import ContextVar

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def came_in(request_id: str) -> None:
    """Everything that this context and its threads do from now on is for this request."""
    _request_id.set(request_id)


def request_id() -> str | None:
    """The request that is being answered; None outside of one."""
    return _request_id.get()
