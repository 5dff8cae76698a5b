"""One HTTP request that survives a restarting service, whichever client sends it.

Every request may be sent again after a lost connection, 429 or 503: GET, HEAD, PUT and DELETE are harmless twice, and
every POST carries an `Idempotency-Key` of its own, the same in each try. What the first try did is then told again.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from ladapress.backoff import Backoff, again, asked_s
from ladapress.errors import LadapressError
from ladapress.ports import Port

Body = Callable[[], AsyncIterator[bytes]]
"""Opens the body afresh for each try."""

Kind = TypeVar("Kind", bound=BaseModel)

FIRST_CONTACT_S = 5.0  # until the service has answered once, a wrong address is likelier than a restart


class Transport:
    """A pooled connection to one service.

    Args:
        port: how requests leave and time passes.
        url: base address, `http://127.0.0.1:8642`.
        patience_s: how long one request may be retried before `LadapressError(unreachable)`.
    """

    def __init__(self, port: Port, url: str, *, patience_s: float) -> None:
        self.port = port
        self.url = url
        self.patience_s = patience_s
        self._met = False

    async def ask(self, kind: type[Kind], method: str, path: str, **options: Any) -> Kind:
        """The answer of `send` as one of the interface's objects."""
        return parsed(kind, await self.json(method, path, **options), f"{method} {path}")

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """The parsed answer of `send`; None for an empty one."""
        async with self.send(method, path, **options) as response:
            if not response.content:
                return None
            try:
                return response.json()
            except ValueError:
                raise LadapressError.from_response(
                    response.status_code, response.content, url=str(response.url)
                ) from None

    async def delete(self, path: str) -> None:
        """Have an object be gone."""
        async with self.send("DELETE", path):
            pass

    @asynccontextmanager
    async def send(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: Body | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
        stream: bool = False,
    ) -> AsyncIterator[httpx2.Response]:
        """A successful response; with `stream` its body has not been read yet, and reading it is not retried.

        Args:
            idempotency_key: of a POST; a fresh one where None.

        Raises:
            LadapressError: the service refused (its problem), or `unreachable` when patience ran out.
        """
        sent = dict(headers or {})
        if method == "POST":
            sent["idempotency-key"] = idempotency_key or uuid.uuid4().hex
        patience_s = self.patience_s if self._met else min(self.patience_s, FIRST_CONTACT_S)
        backoff = Backoff(time.monotonic() + patience_s)
        lost = False
        while True:
            request = self.port.request(
                method,
                path,
                json=json,
                body=None if body is None else body(),
                params=params,
                headers=sent,
                timeout=httpx2.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s,
            )
            try:
                # A stored file may lie elsewhere; the key goes to this service only, which httpx2 sees to.
                response = await self.port.send(request, follow_redirects=stream)
                if not (stream and response.is_success):
                    await self.port.read(response)
            except httpx2.TransportError as error:
                problem = self._unreachable(error)
                wait = backoff.wait_s(time.monotonic())
                lost = True
            else:
                self._met = True
                # What is not there any more was deleted by the try whose answer was lost.
                if response.is_success or (lost and method == "DELETE" and response.status_code == 404):
                    try:
                        yield response
                    finally:
                        await self.port.close(response)
                    return
                problem = LadapressError.from_response(response.status_code, response.content, url=str(response.url))
                problem.retry_after_s = asked_s(response.headers)
                repeat = again(response.status_code, problem.code)
                wait = backoff.wait_s(time.monotonic(), problem.retry_after_s) if repeat else None
            if wait is None:
                raise problem
            await self.port.sleep(wait)

    def _unreachable(self, error: Exception) -> LadapressError:
        reason = str(error) or type(error).__name__
        return LadapressError.local(
            "unreachable",
            f"no answer from {self.url}: {reason}; is the service running there? (`ladapress up` starts one, "
            "LADAPRESS_URL names another)",
            retryable=True,
        )


def parsed(kind: type[Kind], answer: Any, what: str) -> Kind:
    """An object of the interface.

    Raises:
        LadapressError: `protocol`: the answer to `what` is none, as where service and client are years apart.
    """
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        first = error.errors()[0]
        at = "/".join(map(str, first["loc"]))
        detail = f"{what} answers with something that is no {kind.__name__}: {at}: {first['msg']}"
        raise LadapressError.local("protocol", detail) from None


def place(*parts: str) -> str:
    """The path of an object: `place("jobs", job_id)`. A part may hold slashes (a file of an artifact), nothing else."""
    return "/v1/" + "/".join(quote(part) for part in parts)


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What of a request was given, as JSON: fields that are None are left out, so that the service decides."""
    return {name: _plain(value) for name, value in fields.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, datetime):
        return rfc3339(value)
    return given(value) if isinstance(value, Mapping) else value


def rfc3339(value: datetime) -> str:
    """As the interface spells times; one without a zone is this machine's."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
