"""`Client` and `AsyncClient`: the whole HTTP interface as plain calls that return typed objects.

with Client() as client:
    model = client.models.upload("my-bert")
    train, evaluation = client.datasets.upload("train.csv"), client.datasets.upload("eval.csv")
    job = client.jobs.create(model=model.id, train=train.id, eval=evaluation.id, preset="ladabert-3")
    job.wait().download("my-small-bert")

async with AsyncClient() as client:
    model = await client.models.upload("my-bert")
    ...
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Generic, Unpack

import httpx2

from ladapress import types
from ladapress.api_keys import ApiKeys
from ladapress.artifacts import Artifacts
from ladapress.errors import LadapressError
from ladapress.inputs import Datasets, Models
from ladapress.jobs import Jobs
from ladapress.keys import Keys, key_set
from ladapress.modes import Async, Mode, Sync, operation
from ladapress.pages import Asked, Window, listing
from ladapress.plans import Inspections, Plans
from ladapress.ports import Blocking, Port, Waiting
from ladapress.pushes import Pushes
from ladapress.resource import Resource
from ladapress.resumable import Uploads
from ladapress.transport import Transport, given, place
from ladapress.webhooks import Webhooks

DEFAULT_URL = "http://127.0.0.1:8642"


class Service(Resource[Mode], Generic[Mode]):
    """What both clients have: a resource is a line here."""

    def __init__(self, port: Port, url: str, patience_s: float) -> None:
        super().__init__(Transport(port, url, patience_s=patience_s))
        self.models: Models[Mode] = Models(self._transport)
        self.datasets: Datasets[Mode] = Datasets(self._transport)
        self.inspections: Inspections[Mode] = Inspections(self._transport)
        self.plans: Plans[Mode] = Plans(self._transport)
        self.jobs: Jobs[Mode] = Jobs(self._transport)
        self.artifacts: Artifacts[Mode] = Artifacts(self._transport)
        self.pushes: Pushes[Mode] = Pushes(self._transport)
        self.uploads: Uploads[Mode] = Uploads(self._transport)
        self.webhooks: Webhooks[Mode] = Webhooks(self._transport)
        self.api_keys: ApiKeys[Mode] = ApiKeys(self._transport)

    @property
    def url(self) -> str:
        """Address of the service."""
        return self._transport.url

    @operation
    async def methods(self) -> types.MethodList:
        """What a step of a recipe may be."""
        return await self._ask(types.MethodList, "GET", place("methods"))

    @operation
    async def presets(self) -> types.PresetList:
        """Recipes with names."""
        return await self._ask(types.PresetList, "GET", place("presets"))

    @operation
    async def me(self) -> types.Me:
        """Who asks: the project, and the scopes of the key."""
        return await self._ask(types.Me, "GET", place("me"))

    @operation
    async def usage(self, *, month: str | None = None) -> types.Usage:
        """Bytes, jobs, seconds and quotas of the project.

        Args:
            month: "2026-11", UTC, for the seconds; this month where None.
        """
        return await self._ask(types.Usage, "GET", place("usage"), params=given({"month": month}))

    @listing
    def audit(
        self,
        *,
        action: str | None = None,
        object_id: str | None = None,
        who: str | None = None,
        **window: Unpack[Window],
    ) -> Asked[types.AuditEntry]:
        """What was done in the project, newest first, `limit` a page. Needs the scope "admin".

        Args:
            action: "key.create", or "key" for all that begins so.
            object_id: only what was done to this object.
            who: only what this key or person did.
        """
        return self._list(types.AuditEntry, place("audit"), window, action=action, object_id=object_id, who=who)

    @operation
    async def signing_keys(self) -> Keys:
        """The public keys that the service says it signs artifacts with, by kid; retired ones too."""
        said = await self._transport.json("GET", "/.well-known/ladapress-keys.json")
        try:
            return key_set(said["keys"])
        except (TypeError, KeyError, AttributeError):
            raise LadapressError.local("protocol", f"{self.url} answers with something that is no JWK Set") from None


class Client(Service[Sync]):
    """A connection to one service. Use as a context manager, or call `close`.

    Args:
        url: address of the service; LADAPRESS_URL, else http://127.0.0.1:8642.
        api_key: LADAPRESS_API_KEY where None; a keyless loopback service needs none.
        patience_s: how long a request is retried while the service does not answer, or asks to come back later.
        timeout_s: how long one try may be silent.
        handler: httpx2 transport used instead of the network (tests, proxies).
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        patience_s: float = 30.0,
        timeout_s: float = 60.0,
        handler: httpx2.BaseTransport | None = None,
    ) -> None:
        base = _address(url)
        port = Blocking(handler, base_url=base, headers=_headers(api_key), timeout=_timeout(timeout_s))
        super().__init__(port, base, patience_s)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @operation
    async def close(self) -> None:
        """Give the sockets back."""
        await self._transport.port.shut()


class AsyncClient(Service[Async]):
    """`Client` for an event loop, asyncio's or trio's: the same calls, to be awaited. `async with`, or `aclose`."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        patience_s: float = 30.0,
        timeout_s: float = 60.0,
        handler: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        base = _address(url)
        port = Waiting(handler, base_url=base, headers=_headers(api_key), timeout=_timeout(timeout_s))
        super().__init__(port, base, patience_s)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give the sockets back."""
        await self._transport.port.shut()


def _address(url: str | None) -> str:
    found = url or os.environ.get("LADAPRESS_URL") or DEFAULT_URL
    if not found.startswith(("http://", "https://")):
        raise LadapressError.local("usage", f"LADAPRESS_URL {found!r}: must be http://HOST:PORT or https://...")
    return found.rstrip("/")


def _headers(api_key: str | None) -> dict[str, str]:
    headers = {"user-agent": "ladapress-client/0.1", "accept": "application/json"}
    if key := (api_key or os.environ.get("LADAPRESS_API_KEY", "")).strip():
        headers["authorization"] = f"Bearer {key}"
    return headers


def _timeout(silence_s: float) -> httpx2.Timeout:
    return httpx2.Timeout(silence_s, connect=min(silence_s, 5.0))
