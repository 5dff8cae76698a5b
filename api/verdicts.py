"""Waiting for an inspection without holding a thread or a transaction."""

from __future__ import annotations

import time

import anyio
from anyio.to_thread import run_sync

from api.context import Context
from jobs import service, tables
from jobs.queue import announce
from jobs.scope import Scope

FIRST_S, LONGEST_S = 0.03, 0.2  # pauses between two looks; they grow


async def verdict(context: Context, scope: Scope, inspection: tables.Inspection) -> tables.Inspection:
    """The inspection once it is done, or as it is after `inspect_wait_s`. Wakes a worker for it first.

    Raises:
        Refused: not_found, when its model or data was deleted meanwhile.
    """
    if inspection.state == "done":
        return inspection
    announce(context.settings, "inspection")
    deadline = time.monotonic() + context.settings.inspect_wait_s
    pause = FIRST_S
    while inspection.state != "done" and (left := deadline - time.monotonic()) > 0:
        await anyio.sleep(min(pause, left))
        pause = min(LONGEST_S, pause * 1.5)
        inspection = await run_sync(_look, context, scope, inspection.id)
    return inspection


def _look(context: Context, scope: Scope, inspection_id: str) -> tables.Inspection:
    with context.database.readers() as s:
        return service.get_inspection(s, scope, inspection_id)
