"""Every request has an id: the caller's `X-Request-Id` where it is plain, else a fresh one. Pure ASGI.

It stands in the answer, in every log line, and in the rows that the request makes. Nothing takes it back afterwards:
each request is a task of its own, and the handler of unexpected errors runs outside of this middleware.
"""

from __future__ import annotations

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.logs import bind
from jobs.origin import came_in

PLAIN = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestId:
    """Middleware: sets `state.request_id` and echoes it; adds `nosniff` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-request-id", "")
        request_id = sent if PLAIN.fullmatch(sent) else secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id
        came_in(request_id)
        bind(request_id=request_id)

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self.app(scope, receive, with_id)
