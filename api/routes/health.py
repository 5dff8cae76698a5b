"""Liveness and readiness, without a key."""

from __future__ import annotations

import os

from fastapi import APIRouter
from sqlalchemy import text

from api import schemas
from api.context import Ctx
from api.errors import responses
from jobs.problem import refuse

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def get_health() -> schemas.Health:
    """The process answers."""
    return schemas.Health()


@router.get("/readyz", responses=responses(503))
def get_readiness(context: Ctx) -> schemas.Health:
    """The database answers and the store takes files."""
    with context.database.readers() as s:
        s.execute(text("SELECT 1"))
    try:
        context.store.root.mkdir(parents=True, exist_ok=True)
        writable = os.access(context.store.root, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise refuse("unavailable", "the store cannot be written", retryable=True)
    return schemas.Health()
