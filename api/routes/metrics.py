"""`GET /metrics` for Prometheus: of every project together, so a project's key does not open it.

Without `metrics_token_file`, whoever calls from this machine itself gets it, and nobody who was passed on by a proxy;
with it, whoever knows the token, from anywhere (docs/decisions/0018).
"""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from prometheus_client.exposition import choose_encoder

from api.auth import require_local
from api.context import Context, Ctx
from jobs.problem import refuse

router = APIRouter(include_in_schema=False)
PASSED_ON = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


@router.get("/metrics")
def get_metrics(request: Request, context: Ctx, accept: Annotated[str, Header()] = "") -> Response:
    """The figures, as text or in OpenMetrics' form."""
    _admit(request, context)
    encode, media_type = choose_encoder(accept)
    return Response(encode(context.metrics.registry), headers={"Content-Type": media_type})


def _admit(request: Request, context: Context) -> None:
    """Raises Refused (unauthorized, origin_refused; unavailable where the token cannot be read)."""
    file = context.settings.metrics_token_file
    if file is None:
        require_local(request)
        if any(name in request.headers for name in PASSED_ON):
            raise refuse("origin_refused", "metrics are for this machine; for others set LADAPRESS_METRICS_TOKEN_FILE")
        return
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        token = ""
    if not token:
        raise refuse("unavailable", "the file of LADAPRESS_METRICS_TOKEN_FILE holds no token", retryable=True)
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode(), token.encode()):
        raise refuse("unauthorized", "metrics need the operator's token; legal: Authorization: Bearer <token>")
