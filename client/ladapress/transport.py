"""One HTTP request that survives a restarting service: retries with backoff, never one that could act twice.

A request is sent again after a refused connection, 429 or 503 (the service did not act), and after a connection lost in
flight only if repeating is harmless: GET, HEAD, PUT and DELETE, or a POST whose caller says that it is `repeatable`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx2

from ladapress.errors import LadapressError

Body = Callable[[], Iterable[bytes]]
"""Opens the body afresh for each try."""

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 8.0
LONGEST_RETRY_AFTER_S = 60.0
FIRST_CONTACT_S = 5.0  # until the service has answered once, a wrong address is likelier than a restart


class Transport:
    """A pooled connection to one service.

    Args:
        url: base address, `http://127.0.0.1:8642`.
        api_key: sent as `Authorization: Bearer`; None for a keyless loopback service.
        patience_s: how long one request may be retried before `LadapressError(unreachable)`.
        handler: httpx2 transport to use instead of the network, for tests and proxies.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        *,
        patience_s: float,
        handler: httpx2.BaseTransport | None = None,
    ) -> None:
        headers = {"user-agent": "ladapress-client/0.1", "accept": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        if not url.startswith(("http://", "https://")):
            raise LadapressError.local("usage", f"LADAPRESS_URL {url!r}: must be http://HOST:PORT or https://...")
        self.url = url.rstrip("/")
        self.patience_s = patience_s
        self._met = False
        self._http = httpx2.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx2.Timeout(60.0, connect=5.0),
            transport=handler,
        )

    def close(self) -> None:
        """Give the sockets back."""
        self._http.close()

    def json(self, method: str, path: str, **options: Any) -> Any:
        """The parsed answer of `send`; None for an empty one."""
        with self.send(method, path, **options) as response:
            if not response.content:
                return None
            try:
                return response.json()
            except ValueError:
                raise LadapressError.from_response(
                    response.status_code, response.content, url=str(response.url)
                ) from None

    def page(self, path: str, limit: int, after: str | None) -> Any:
        """One page of a list, newest first."""
        return self.json("GET", path, params={"limit": limit, **({"after": after} if after else {})})

    @contextmanager
    def send(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: Body | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        stream: bool = False,
        repeatable: bool = False,
        elsewhere: bool = False,
    ) -> Iterator[httpx2.Response]:
        """A successful response; with `stream` its body has not been read yet, and reading it is not retried.

        With `elsewhere` the service may name another address, which does not get the key.

        Raises:
            LadapressError: the service refused (its problem), or `unreachable` when patience ran out.
        """
        harmless = repeatable or method != "POST"
        patience_s = self.patience_s if self._met else min(self.patience_s, FIRST_CONTACT_S)
        deadline = time.monotonic() + patience_s
        delay = FIRST_DELAY_S
        while True:
            request = self._http.build_request(
                method,
                path,
                json=json,
                content=None if body is None else body(),
                params=params,
                headers=headers,
                timeout=httpx2.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s,
            )
            try:
                response = self._http.send(request, stream=True, follow_redirects=elsewhere)
                if not (stream and response.is_success):
                    response.read()
            except httpx2.TransportError as error:
                problem = self._unreachable(error)
                wait = delay if harmless or isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout) else None
            else:
                self._met = True
                if response.is_success:
                    try:
                        yield response
                    finally:
                        response.close()
                    return
                problem = LadapressError.from_response(response.status_code, response.content, url=str(response.url))
                wait = retry_after(response, delay) if response.status_code in (429, 503) else None
            if wait is None or time.monotonic() + wait > deadline:
                raise problem
            time.sleep(wait)
            delay = min(delay * 2, LONGEST_DELAY_S) * random.uniform(0.8, 1.2)  # noqa: S311  # jitter, not a secret

    def _unreachable(self, error: Exception) -> LadapressError:
        reason = str(error) or type(error).__name__
        return LadapressError.local(
            "unreachable",
            f"no answer from {self.url}: {reason}; is the service running there? (`ladapress up` starts one, "
            "LADAPRESS_URL names another)",
            retryable=True,
        )


def place(*parts: str) -> str:
    """The path of an object: `place("jobs", job_id)`. A part may hold slashes (a file of an artifact), nothing else."""
    return "/v1/" + "/".join(quote(part) for part in parts)


def retry_after(response: httpx2.Response, otherwise_s: float) -> float:
    """Seconds to wait as the service asks; `otherwise_s` where it names no number."""
    try:
        asked = float(response.headers.get("retry-after", ""))
    except ValueError:
        return otherwise_s
    return min(max(asked, otherwise_s), LONGEST_RETRY_AFTER_S) if asked >= 0 else otherwise_s
