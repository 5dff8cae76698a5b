"""What a user may send about webhooks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from core.method import Closed
from jobs.requests import storable
from jobs.webhooks.kinds import Kind

DAY_S = 86_400


def _each_once(given: tuple[str, ...]) -> tuple[str, ...]:
    if twice := sorted({name for name in given if given.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} twice: each type at most once")
    if "*" in given and len(given) > 1:
        raise ValueError('legal: ["*"] alone, or types')
    return given


Url = Annotated[str, Field(min_length=1, max_length=2_000), AfterValidator(storable)]
Events = Annotated[tuple[Kind | Literal["*"], ...], Field(max_length=16), AfterValidator(_each_once)]
Description = Annotated[str, Field(max_length=200), AfterValidator(storable)]
WHICH = 'Types, or ["*"] for all; [] = only those of jobs that name the endpoint.'


class EndpointCreate(Closed):
    """Body of POST /v1/webhook_endpoints."""

    url: Url = Field(description="https://HOST/PATH of a public address, without user name and fragment.")
    events: Events = Field(("*",), description=WHICH)
    description: Description = ""
    enabled: bool = True


class EndpointUpdate(Closed):
    """Body of PATCH /v1/webhook_endpoints/{endpoint_id}: absent or null leaves a field as it is."""

    url: Url | None = None
    events: Events | None = Field(None, description=WHICH)
    description: Description | None = None
    enabled: bool | None = Field(None, description="True also forgets why it was disabled; what waits is sent then.")


class SecretRotate(Closed):
    """Body of POST /v1/webhook_endpoints/{endpoint_id}/rotate_secret."""

    grace_s: float = Field(
        DAY_S, ge=0, le=7 * DAY_S, description="Seconds for which every message bears the old secret's signature, too."
    )
