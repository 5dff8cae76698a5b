"""Liveness and readiness, without a key."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import text

from api import schemas
from api.context import Ctx
from api.errors import responses

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
    context.store.check()
    return schemas.Health()
