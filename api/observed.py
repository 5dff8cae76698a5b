"""One line in the log and one entry in the figures for every request. Pure ASGI.

Routes appear as templates, so neither an id nor what somebody typed becomes a label; bodies, query values and headers
are not looked at.
"""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.legal import template_of
from api.metrics import Metrics

log = logging.getLogger("ladapress.request")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OFTEN = ("/healthz", "/readyz", "/metrics")  # asked every few seconds by machines
OTHER = "other"
GONE = 499  # the caller left before an answer began


def unobserved(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request is one of those that say nothing about the service's use."""
    return scope.get("path") in OFTEN


class Observed:
    """Middleware: measures from the first byte to the last; of a stream, the figures hold the time to its first."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        answer = _Answer()

        async def counted() -> Message:
            message = await receive()
            answer.received += len(message.get("body", b""))
            return message

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.began = time.perf_counter()
                answer.stream = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
                if answer.stream:
                    self.metrics.streams.inc()
            answer.sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, counted, watched)
        except Exception:
            answer.status = answer.status or 500  # answered outside of here, by `api.errors`
            raise
        finally:
            self._tell(scope, answer, began)

    def _tell(self, scope: Scope, answer: _Answer, began: float) -> None:
        now = time.perf_counter()
        if answer.stream:
            self.metrics.streams.dec()
        method = scope["method"] if scope["method"] in METHODS else OTHER
        route = getattr(scope.get("route"), "path_format", None) or template_of(scope["app"], scope["path"]) or OTHER
        status = answer.status or GONE
        self.metrics.requests.labels(method, route, str(status)).observe((answer.began or now) - began)
        self.metrics.received.labels(route).inc(answer.received)
        self.metrics.sent.labels(route).inc(answer.sent)
        caller = scope["state"].get("caller")
        line = {
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(1000 * (now - began), 1),
            "bytes_in": answer.received,
            "bytes_out": answer.sent,
            "project": getattr(caller, "project_id", None),
            "key": getattr(caller, "who", None),
        }
        log.log(logging.DEBUG if scope["path"] in OFTEN else logging.INFO, "request", extra=line)


class _Answer:
    def __init__(self) -> None:
        self.status = 0
        self.began = 0.0
        self.stream = False
        self.received = self.sent = 0
