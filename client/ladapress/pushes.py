"""Artifacts on their way to a registry: `client.pushes`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Unpack

from ladapress import types
from ladapress.errors import LadapressError
from ladapress.modes import Mode, operation
from ladapress.pages import Asked, Window, listing
from ladapress.resource import Resource
from ladapress.transport import given, place

ENDED = ("succeeded", "failed")
LONGEST_PAUSE_S = 5.0


class Pushes(Resource[Mode]):
    """Registries, and pushes to them."""

    @operation
    async def registries(self) -> types.RegistryList:
        """Where artifacts of this project may be pushed to."""
        return await self._ask(types.RegistryList, "GET", place("registries"))

    @operation
    async def create(
        self,
        artifact_id: str,
        *,
        registry: str,
        to: str,
        revision: str | None = None,
        alias: str | None = None,
        idempotency_key: str | None = None,
    ) -> types.Push:
        """Ask for a push. Asked again it adds nothing to the registry.

        Args:
            registry: a name of `registries`.
            to: repository (NAMESPACE/NAME) of a Hugging Face hub, or registered model of an MLflow server.
            revision: branch of a repository; "main" where None.
            alias: alias that the version of a registered model gets.
        """
        body = given({"registry": registry, "to": to, "revision": revision, "alias": alias})
        path = place("artifacts", artifact_id, "push")
        return await self._ask(types.Push, "POST", path, json=body, idempotency_key=idempotency_key)

    @operation
    async def get(self, push_id: str) -> types.Push:
        """One push as it is now."""
        return await self._ask(types.Push, "GET", place("pushes", push_id))

    @listing
    def list(
        self,
        *,
        artifact_id: str | None = None,
        **window: Unpack[Window],
    ) -> Asked[types.Push]:
        """Newest first, `limit` a page; those of one artifact where it is named."""
        return self._list(types.Push, place("pushes"), window, artifact_id=artifact_id)

    @operation
    async def delete(self, push_id: str) -> None:
        """Forget a push, and stop it where it is under way; what has reached the registry stays there."""
        await self._delete(place("pushes", push_id))

    @operation
    async def wait(
        self,
        push_id: str,
        *,
        timeout_s: float | None = None,
        on_change: Callable[[types.Push], None] = lambda _: None,
    ) -> types.Push:
        """The push when it has ended, however it ended.

        Args:
            on_change: called with every push whose status, attempt or error is not the one before.

        Raises:
            LadapressError: `timeout` after `timeout_s` seconds; the push goes on.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s, last = 0.25, None
        while True:
            push = await Pushes.get(self, push_id)
            if (state := (push.status, push.attempt, push.error)) != last:
                on_change(push)
                last = state
            if push.status in ENDED:
                return push
            if deadline is not None and time.monotonic() >= deadline:
                raise LadapressError.local("timeout", f"{push_id} is still {push.status}", retryable=True)
            await self._transport.port.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
