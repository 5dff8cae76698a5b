"""Who is told of events: `client.webhooks`. How a receiver checks a message is in docs/api.md of the service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from ladapress import types
from ladapress.modes import Mode, operation
from ladapress.pages import Asked, Window, listing
from ladapress.resource import Resource
from ladapress.transport import given, place


class Webhooks(Resource[Mode]):
    """Endpoints that are told of events, and what was sent to them."""

    @operation
    async def create(
        self,
        *,
        url: str,
        events: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
        idempotency_key: str | None = None,
    ) -> types.WebhookEndpointWithSecret:
        """Have events sent to a URL. The `secret` that signs them is in this answer and in no later one.

        Args:
            events: types such as "job.succeeded"; all where None; an empty list: only those of jobs that name it.
        """
        body = given({"url": url, "events": events, "description": description, "enabled": enabled})
        path = place("webhook_endpoints")
        return await self._ask(
            types.WebhookEndpointWithSecret, "POST", path, json=body, idempotency_key=idempotency_key
        )

    @operation
    async def get(self, endpoint_id: str) -> types.WebhookEndpoint:
        """One endpoint, without its secret."""
        return await self._ask(types.WebhookEndpoint, "GET", place("webhook_endpoints", endpoint_id))

    @listing
    def list(self, **window: Unpack[Window]) -> Asked[types.WebhookEndpoint]:
        """Newest first, `limit` a page."""
        return self._list(types.WebhookEndpoint, place("webhook_endpoints"), window)

    @operation
    async def update(
        self,
        endpoint_id: str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> types.WebhookEndpoint:
        """Change what is given; the rest stays."""
        body = given({"url": url, "events": events, "description": description, "enabled": enabled})
        return await self._ask(types.WebhookEndpoint, "PATCH", place("webhook_endpoints", endpoint_id), json=body)

    @operation
    async def delete(self, endpoint_id: str) -> None:
        """Forget an endpoint, its secret and its deliveries; what waits is not sent."""
        await self._delete(place("webhook_endpoints", endpoint_id))

    @operation
    async def rotate_secret(
        self, endpoint_id: str, *, grace_s: float | None = None, idempotency_key: str | None = None
    ) -> types.WebhookEndpointWithSecret:
        """Make a new secret; for `grace_s` seconds every message is signed by both."""
        path, body = place("webhook_endpoints", endpoint_id, "rotate_secret"), given({"grace_s": grace_s})
        return await self._ask(
            types.WebhookEndpointWithSecret, "POST", path, json=body, idempotency_key=idempotency_key
        )

    @operation
    async def test(self, endpoint_id: str) -> types.WebhookDelivery:
        """Send a message of type `ping`; its delivery tells how it went."""
        return await self._ask(types.WebhookDelivery, "POST", place("webhook_endpoints", endpoint_id, "test"))

    @listing
    def deliveries(
        self,
        endpoint_id: str,
        *,
        status: str | None = None,
        **window: Unpack[Window],
    ) -> Asked[types.WebhookDelivery]:
        """What was, is and will be sent to an endpoint, newest first, `limit` a page."""
        return self._list(
            types.WebhookDelivery, place("webhook_endpoints", endpoint_id, "deliveries"), window, status=status
        )

    @operation
    async def delivery(self, endpoint_id: str, delivery_id: str) -> types.WebhookDeliveryDetail:
        """One delivery with its attempts."""
        path = place("webhook_endpoints", endpoint_id, "deliveries", delivery_id)
        return await self._ask(types.WebhookDeliveryDetail, "GET", path)

    @operation
    async def replay(
        self, endpoint_id: str, delivery_id: str, *, idempotency_key: str | None = None
    ) -> types.WebhookDeliveryDetail:
        """Send a message once more, under the same webhook-id."""
        path = place("webhook_endpoints", endpoint_id, "deliveries", delivery_id, "replay")
        return await self._ask(types.WebhookDeliveryDetail, "POST", path, idempotency_key=idempotency_key)
