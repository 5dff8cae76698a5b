"""The app: routes, and around them the layers that every request passes. `create_app` is the only way to make one."""

from __future__ import annotations

import logging
import multiprocessing
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from sqlalchemy.exc import OperationalError
from starlette.types import Scope

from api import errors, once, openapi
from api.appending import expire
from api.auth import open_door
from api.context import Context
from api.observed import Observed, unobserved
from api.paging import known_parameters
from api.process import heard
from api.rates import RateHeaders
from api.request_id import RequestId
from api.routes import (
    accounts,
    archives,
    artifacts,
    catalogue,
    datasets,
    events,
    health,
    inspections,
    jobs,
    metrics,
    models,
    plans,
    pushes,
    uploads,
    webhooks,
    well_known,
)
from api.strict_json import StrictJson
from jobs import traces
from jobs.db import upgrade
from jobs.settings import Settings

ROUTERS = (
    events.router,  # first, as it is asked most
    models.router,
    datasets.router,
    uploads.router,
    inspections.router,
    plans.router,
    jobs.router,
    artifacts.router,
    archives.router,
    pushes.router,
    webhooks.router,
    catalogue.router,
    accounts.router,
    health.router,
    metrics.router,
    well_known.router,
)
# FastAPI's own spans, which it makes where `jobs.traces` has named a collector; figures and lines are ours.
TELEMETRY: TelemetryConfig = {"metrics": False, "logs": False, "auto_configure": False, "exclude": unobserved}
log = logging.getLogger("ladapress.api")
THREADS = 8  # of blocking calls; more only wait for the interpreter, and each of them for a connection
RAW = re.compile(r"POST /v1/datasets|\w+ /v1/models/[^/]*/files/.*|\w+ /v1/uploads/[^/]+", re.DOTALL)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The app for these settings (the environment's by default).

    At start it brings the database to the newest schema and refuses to serve the network without keys.
    """
    context = Context(settings or Settings())

    def close() -> None:
        context.closing = True

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        with heard(close):
            await _ready(context)
            app.openapi()  # made once, before anybody waits for it
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expire, context)
                tasks.start_soon(context.feeds.run, context)
                yield
                tasks.cancel_scope.cancel()
        close()
        await run_sync(context.database.dispose)
        await run_sync(traces.flush)  # uvicorn raises the signal again when it is done, and nothing follows

    app = FastAPI(
        title="ladapress",
        version="1",
        summary="Compression as a service for BERT-like encoders.",
        lifespan=lifespan,
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        telemetry=TELEMETRY,
        separate_input_output_schemas=False,
        generate_unique_id_function=_operation_id,
    )
    app.state.context = context
    app.add_middleware(once.Once, context=context)
    app.add_middleware(StrictJson, max_bytes=context.settings.max_json_bytes, raw=_takes_bytes)
    app.add_middleware(Observed, metrics=context.metrics)
    app.add_middleware(RateHeaders)
    app.add_middleware(RequestId)  # added last, so outermost
    errors.install(app)
    openapi.install(app)
    events.install_stream(app)
    for router in ROUTERS:
        app.include_router(router, dependencies=[Depends(known_parameters)])
    return app


async def _ready(context: Context) -> None:
    """The newest schema, and who is let in. One of several processes waits for a database that is away.

    For its supervisor takes a process that cannot start for a reason to end them all, those that serve too.
    """
    while True:
        try:
            await run_sync(upgrade, context.settings)
            await run_sync(open_door, context)
        except OperationalError as error:
            if multiprocessing.parent_process() is None or context.closing:
                raise
            log.warning("the database does not answer: %s", type(error).__name__)
            await anyio.sleep(1)
        else:
            return


def _operation_id(route: APIRoute) -> str:
    return route.name


def _takes_bytes(scope: Scope) -> bool:
    """Whether a request's body is an upload, and so no JSON."""
    return RAW.fullmatch(f"{scope['method']} {scope['path']}") is not None
