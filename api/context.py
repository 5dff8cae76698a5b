"""What every route needs: settings, database, store. One object per app, made by `create_app`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from api.feeds import Feeds
from api.metrics import Metrics
from api.rates import Rates
from jobs.db import Database, connect
from jobs.registries import Registries
from jobs.settings import Settings
from jobs.sources import Sources
from jobs.staging import Staging
from jobs.stores import open_store
from jobs.webhooks.addresses import Guard

if TYPE_CHECKING:
    from api.oidc import Issuer


class Context:
    """Opens nothing by itself: the first use of the database or the store does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database: Database = connect(settings)
        self.store = open_store(settings)
        self.sources = Sources(settings)
        self.staging = Staging(settings.upload_dir)
        self.registries = Registries.load(settings)
        self.guard = Guard.of(settings)
        self.feeds = Feeds(self.database)
        self.metrics = Metrics(self.database, settings.lease_s)
        self.keys_in_use = False  # once true, true for good: a revoked key still counts
        self.rates = Rates(settings)
        self.issuer = _issuer(settings)
        self.touched: dict[str, float] = {}  # key -> monotonic seconds of its last note of use
        self.closing = False  # the server is on its way out: streams end, clients reconnect


def _issuer(settings: Settings) -> Issuer | None:
    if settings.oidc_issuer is None:
        return None
    from api.oidc import Issuer  # noqa: PLC0415 - its libraries cost every start a third of a second

    return Issuer(settings)


async def context_of(request: Request) -> Context:
    """Async only to cost no thread."""
    context: Context = request.app.state.context
    return context


Ctx = Annotated[Context, Depends(context_of)]
