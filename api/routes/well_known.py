"""The public keys that artifacts are signed with (RFC 8615, 7517), for whoever asks: strangers check by them."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from api import schemas, views
from api.context import Ctx
from jobs import service

router = APIRouter(tags=["artifacts"])
FRESH_S = 300  # so long may a cache between answer for us


class KeySetResponse(JSONResponse):
    """RFC 7517 section 8.5."""

    media_type = "application/jwk-set+json"


@router.get("/.well-known/ladapress-keys.json", response_class=KeySetResponse)
def list_signing_keys(context: Ctx, response: Response) -> schemas.KeySet:
    """Every key that signed artifacts here, oldest first. No API key needed."""
    with context.database.readers() as s:
        rows = service.signing_keys(s)
    response.headers["Cache-Control"] = f"public, max-age={FRESH_S}"
    return schemas.KeySet(keys=[views.signing_key(row) for row in rows])
