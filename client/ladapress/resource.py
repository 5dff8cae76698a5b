"""What every resource is made of. A new one is a class like this, and a line in `client.Service`:

class Webhooks(Resource[Mode]):
    @operation
    async def create(self, *, url: str) -> types.WebhookEndpoint:
        return await self._ask(types.WebhookEndpoint, "POST", place("webhook_endpoints"), json={"url": url})

    @listing
    def list(self, **window: Unpack[Window]) -> Asked[types.WebhookEndpoint]:
        return self._list(types.WebhookEndpoint, place("webhook_endpoints"), window)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel

from ladapress.modes import Mode, Moded
from ladapress.pages import Asked, Window, query
from ladapress.transport import Transport, parsed, rfc3339

Kind = TypeVar("Kind", bound=BaseModel)

Moved = Callable[[int], None]
"""Told how many bytes have moved, or (negative) have to be moved again."""


def nobody(count: int) -> None:
    """Nobody wants to know how many bytes moved."""


class Resource(Moded[Mode]):
    """Calls that belong together."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def _ask(self, kind: type[Kind], method: str, path: str, **options: Any) -> Kind:
        return await self._transport.ask(kind, method, path, **options)

    async def _keep(self, kind: type[Kind], path: str, expires_at: datetime | str | None) -> Kind:
        ends = rfc3339(expires_at) if isinstance(expires_at, datetime) else expires_at
        return await self._ask(kind, "PATCH", path, json={"expires_at": ends})  # None is said, too: never

    async def _delete(self, path: str) -> None:
        await self._transport.delete(path)

    def _list(
        self,
        kind: type[Kind],
        path: str,
        window: Window,
        *,
        metadata: Mapping[str, str] | None = None,
        **filters: Any,
    ) -> Asked[Kind]:
        asked = query(window, metadata=metadata, **filters)
        return Asked(path, lambda row: parsed(kind, row, f"GET {path}"), asked)
