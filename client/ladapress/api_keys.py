"""Keys of the project: `client.api_keys`. They need the scope "admin"."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Unpack

from ladapress import types
from ladapress.modes import Mode, operation
from ladapress.pages import Asked, Window, listing
from ladapress.resource import Resource
from ladapress.transport import given, place


class ApiKeys(Resource[Mode]):
    """Keys of the project."""

    @operation
    async def create(
        self,
        *,
        name: str,
        scopes: Sequence[str] | None = None,
        expires_at: datetime | str | None = None,
        idempotency_key: str | None = None,
    ) -> types.NewApiKey:
        """A new key. Its `token` is in this answer and in no later one.

        Args:
            name: for people: who or what holds the key.
            scopes: "read", "write", "admin", or one area as "jobs:write"; read and write where None.
            expires_at: when it ends by itself; never where None.
        """
        body = given({"name": name, "scopes": scopes, "expires_at": expires_at})
        return await self._ask(types.NewApiKey, "POST", place("api_keys"), json=body, idempotency_key=idempotency_key)

    @operation
    async def get(self, key_id: str) -> types.ApiKey:
        """One key, without its secret."""
        return await self._ask(types.ApiKey, "GET", place("api_keys", key_id))

    @listing
    def list(self, **window: Unpack[Window]) -> Asked[types.ApiKey]:
        """Newest first, `limit` a page; those that have ended, too."""
        return self._list(types.ApiKey, place("api_keys"), window)

    @operation
    async def rotate(
        self, key_id: str, *, grace_s: int | None = None, idempotency_key: str | None = None
    ) -> types.NewApiKey:
        """A new token for a key; the one of before works for `grace_s` more seconds."""
        path, body = place("api_keys", key_id, "rotate"), given({"grace_s": grace_s})
        return await self._ask(types.NewApiKey, "POST", path, json=body, idempotency_key=idempotency_key)

    @operation
    async def revoke(self, key_id: str) -> None:
        """End a key for good, from the next request on; it stays in the list."""
        await self._delete(place("api_keys", key_id))
