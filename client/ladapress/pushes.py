"""Artifacts on their way to a registry: `client.pushes`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ladapress import types
from ladapress.errors import LadapressError
from ladapress.transport import Transport, place

ENDED = ("succeeded", "failed")
LONGEST_PAUSE_S = 5.0


class Pushes:
    """Registries, and pushes to them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def registries(self) -> types.RegistryList:
        """Where artifacts of this project may be pushed to."""
        return types.RegistryList.model_validate(self._transport.json("GET", "/v1/registries"))

    def create(
        self, artifact_id: str, *, registry: str, to: str, revision: str | None = None, alias: str | None = None
    ) -> types.Push:
        """Ask for a push. Asked again it adds nothing to the registry.

        Args:
            registry: a name of `registries`.
            to: repository (NAMESPACE/NAME) of a Hugging Face hub, or registered model of an MLflow server.
            revision: branch of a repository; "main" where None.
            alias: alias that the version of a registered model gets.
        """
        asked: dict[str, Any] = {"registry": registry, "to": to, "revision": revision, "alias": alias}
        body = {name: value for name, value in asked.items() if value is not None}
        return types.Push.model_validate(
            self._transport.json("POST", place("artifacts", artifact_id, "push"), json=body, repeatable=True)
        )

    def get(self, push_id: str) -> types.Push:
        """One push as it is now."""
        return types.Push.model_validate(self._transport.json("GET", place("pushes", push_id)))

    def list(self, *, limit: int = 20, after: str | None = None) -> types.PushList:
        """Newest first; `after` is the last id of the page before."""
        return types.PushList.model_validate(self._transport.page("/v1/pushes", limit, after))

    def delete(self, push_id: str) -> None:
        """Forget a push, and stop it where it is under way; what has reached the registry stays there."""
        self._transport.json("DELETE", place("pushes", push_id))

    def wait(
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
            push = self.get(push_id)
            if (state := (push.status, push.attempt, push.error)) != last:
                on_change(push)
                last = state
            if push.status in ENDED:
                return push
            if deadline is not None and time.monotonic() >= deadline:
                raise LadapressError.local("timeout", f"{push_id} is still {push.status}", retryable=True)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
