"""What the service answers about webhooks, and the message that it sends."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from api.schemas import Answer, Page
from jobs.webhooks.kinds import Kind

DeliveryStatus = Literal["queued", "running", "succeeded", "failed"]
MessageKind = Literal[Kind, "ping"]


class WebhookEndpoint(Answer):
    """Who is told of events."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    url: str
    events: list[Kind | Literal["*"]]
    description: str
    enabled: bool
    disabled_reason: str | None = Field(description="Where the service disabled it: why.")
    failing_since: datetime | None = Field(description="The first failure after the last success.")
    old_secret_until: datetime | None = Field(description="Until then the secret before this one signs, too.")
    created_at: datetime


class WebhookEndpointWithSecret(WebhookEndpoint):
    """The endpoint and its secret, which is shown this once."""

    secret: str = Field(description="whsec_ and base64, as the libraries of Standard Webhooks take it.")


class WebhookEndpointList(Page[WebhookEndpoint]):
    """Endpoints of the project."""


class WebhookMessage(Answer):
    """What is POSTed to an endpoint. The header `webhook-id` is the same at each attempt."""

    type: MessageKind
    timestamp: datetime = Field(description="When it happened; the header webhook-timestamp is of the attempt.")
    data: dict[str, Any] = Field(description="`object` and `id` of what it tells of; of a job also `seq` of its event.")


class WebhookDelivery(Answer):
    """One message to one endpoint; `id` is its webhook-id."""

    id: str
    object: Literal["webhook_delivery"] = "webhook_delivery"
    endpoint_id: str
    type: MessageKind
    message: WebhookMessage
    status: DeliveryStatus
    next_attempt_at: datetime | None = Field(description="Of a queued one: not before. A disabled endpoint waits.")
    created_at: datetime
    finished_at: datetime | None


class WebhookDeliveryList(Page[WebhookDelivery]):
    """Deliveries to an endpoint."""


class WebhookAttempt(Answer):
    at: datetime = Field(description="Its end.")
    duration_s: float
    status_code: int | None = Field(description="Null where there was no answer.")
    error: str | None
    answer: str | None = Field(description="The beginning of what was answered.")


class WebhookDeliveryDetail(WebhookDelivery):
    """A delivery with what was tried."""

    attempts: list[WebhookAttempt]
