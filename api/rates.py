"""Rate limits: how often one key, or one address without keys, may ask; and how often one address may guess.

Counted by the library `limits` with a sliding window: in Redis where that is the broker, so that several API processes
count together, else in this process. A Redis that is away is no reason to refuse anybody: this process counts then.
Headers as in draft-ietf-httpapi-ratelimit-headers-10, on every answer.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, TypeVar

from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.problem import refuse
from jobs.settings import Settings

Bucket = Literal["read", "write", "failures"]
AWAY_S = 10.0  # so long Redis is not asked again after it did not answer
ANSWER_S = 0.5  # longest wait for Redis
WELCOME = 4096  # tokens that were right lately, and so are looked at even where their address has guessed too often
KEY = "rate_limit"  # in the request's state: headers for its answer
Answer = TypeVar("Answer")

log = logging.getLogger("ladapress.api")


class Rates:
    """The counters of one API process."""

    def __init__(self, settings: Settings) -> None:
        self._items: dict[Bucket, RateLimitItem] = {}
        if settings.rate_limits:
            rates = {"read": settings.rate_read, "write": settings.rate_write, "failures": settings.rate_failures}
            self._items = {bucket: parse(rate) for bucket, rate in rates.items()}  # type: ignore[misc]
        self._here = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = _shared(settings)
        self._away_until = 0.0
        self._welcome: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def spend(self, bucket: Bucket, who: str) -> dict[str, str]:
        """Count one request of `who`; the headers that tell what is left.

        Raises:
            RateLimited: there was nothing left.
        """
        item = self._items.get(bucket)
        if item is None:
            return {}
        allowed, (reset, left) = self._ask(
            lambda limiter: (limiter.hit(item, bucket, who), limiter.get_window_stats(item, bucket, who))
        )
        wait = max(1, math.ceil(reset - time.time()))
        headers = {
            "RateLimit-Policy": f'"{bucket}";q={item.amount};w={item.get_expiry()}',
            "RateLimit": f'"{bucket}";r={left if allowed else 0};t={wait}',
        }
        if not allowed:
            raise RateLimited(bucket, item, {**headers, "Retry-After": str(wait)})
        return headers

    def before_looking(self, token: str, address: str) -> None:
        """Whether the token may be looked up at all. Raises RateLimited: its address has sent too many wrong ones."""
        item = self._items.get("failures")
        if item is None or self._ask(lambda limiter: limiter.test(item, "failures", address)):
            return
        with self._lock:
            known = _digest(token) in self._welcome
        if not known:
            reset = self._ask(lambda limiter: limiter.get_window_stats(item, "failures", address))[0]
            raise RateLimited("failures", item, {"Retry-After": str(max(1, math.ceil(reset - time.time())))})

    def looked(self, token: str, address: str, *, right: bool) -> None:
        """Remember how a look-up ended."""
        item = self._items.get("failures")
        if item is None:
            return
        with self._lock:
            if right:
                self._welcome[_digest(token)] = None
                self._welcome.move_to_end(_digest(token))
                while len(self._welcome) > WELCOME:
                    self._welcome.popitem(last=False)
            else:
                self._welcome.pop(_digest(token), None)
        if not right:
            self._ask(lambda limiter: limiter.hit(item, "failures", address))

    def _ask(self, question: Callable[[SlidingWindowCounterRateLimiter], Answer]) -> Answer:
        if self._shared is not None and time.monotonic() >= self._away_until:
            try:
                return question(self._shared)
            except StorageError as error:
                self._away_until = time.monotonic() + AWAY_S
                cause = type(error.storage_error).__name__
                log.warning("rate limits: Redis does not answer (%s); this process counts alone", cause)
        return question(self._here)


class RateLimited(Exception):
    """Too many requests; `headers` are those of the answer."""

    def __init__(self, bucket: Bucket, item: RateLimitItem, headers: dict[str, str]) -> None:
        what = "wrong keys from this address" if bucket == "failures" else f"{bucket} requests"
        detail = f"more than {item.amount} {what} in {item.get_expiry()} seconds; Retry-After says when to come back"
        self.problem = refuse("rate_limited", detail, retryable=True).problem
        self.headers = headers
        super().__init__(detail)


class RateHeaders:
    """Middleware: puts the headers that `api.auth` left in the request's state on its answer, whatever that is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(scope.get("state", {}).get(KEY, {}))
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def neighbourhood(host: str | None) -> str:
    """What counts as one address: an IPv4 address, or the /64 that an IPv6 host has to itself."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return host or "local"  # a Unix socket
    return str(ipaddress.ip_network((address, 64), strict=False) if address.version == 6 else address)


def _shared(settings: Settings) -> SlidingWindowCounterRateLimiter | None:
    if not settings.rate_limits or not (settings.broker_url or "").startswith(("redis://", "rediss://")):
        return None
    storage = RedisStorage(
        str(settings.broker_url),
        key_prefix=f"{settings.celery_prefix}ladapress-rate",
        wrap_exceptions=True,
        socket_timeout=ANSWER_S,
        socket_connect_timeout=ANSWER_S,
    )
    return SlidingWindowCounterRateLimiter(storage)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
