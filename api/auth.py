"""Who asks, and how often. With keys: `Authorization: Bearer`, a key or a token of the issuer. Without: people at this
machine only.

Without keys everyone who reaches the port may do everything, so it must be reached from here alone: a loopback bind,
a loopback peer, a `Host` that names this machine (a rebound DNS name does not), and no `Origin` of another page.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.exc import SQLAlchemyError

from api import once
from api.context import Context, Ctx
from api.rates import KEY, Bucket, neighbourhood
from jobs.keys import TOUCH_S, any_key, authenticate, bootstrap, is_loopback, touch
from jobs.problem import Refused, refuse
from jobs.projects import living
from jobs.scope import PROJECT_HEADER, Scope

log = logging.getLogger("ladapress.api")

bearer = HTTPBearer(
    auto_error=False, scheme_name="key", description="An API key. Not needed while no key exists (local use)."
)


def open_door(context: Context) -> None:
    """At start: let the bootstrap key in, and refuse to serve the network without keys.

    Raises:
        RuntimeError: no key exists and the bind is not loopback.
    """
    with context.database.sessions.begin() as s:
        bootstrap(s, context.settings)
        context.keys_in_use = context.issuer is not None or any_key(s)
    host = context.settings.host
    if not context.keys_in_use and not is_loopback(host):
        raise RuntimeError(
            f"refusing to serve on {host!r} without API keys: bind 127.0.0.1, or set LADAPRESS_BOOTSTRAP_KEY_FILE"
        )


def caller(
    request: Request,
    context: Ctx,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
) -> Scope:
    """The project and rights of a request, which is counted.

    Raises:
        Refused: unauthorized; forbidden for strangers without keys.
        RateLimited: too many requests, or too many wrong keys.
    """
    address = neighbourhood(request.client.host if request.client is not None else None)
    if credentials is not None:
        context.rates.before_looking(credentials.credentials, address)
    scope = admitted(request, context, credentials)
    keyed = context.keys_in_use
    if credentials is not None and keyed:
        context.rates.looked(credentials.credentials, address, right=scope is not None)
    if scope is None:
        sent = "the key is unknown, expired or revoked" if credentials else "no key was sent"
        raise refuse("unauthorized", f"{sent}; legal: Authorization: Bearer <key>")
    bucket: Bucket = "read" if request.method in ("GET", "HEAD") else "write"
    left = context.rates.spend(bucket, f"{scope.project_id}/{scope.who}" if keyed else address)
    request.scope.setdefault("state", {})[KEY] = left
    request.state.caller = scope  # for the log
    if scope.who.startswith("key_"):
        _touch(context, scope.who)
    return scope


def admitted(request: Request, context: Context, credentials: HTTPAuthorizationCredentials | None) -> Scope | None:
    """The project and rights that credentials give now; None where they are no good. Counts nothing.

    Raises:
        Refused: forbidden, origin_refused, unavailable.
    """
    scope = None
    token = credentials.credentials if credentials is not None else ""
    if context.issuer is not None and token and not token.startswith("lp_"):
        scope = context.issuer.admit(token, request.headers.get(PROJECT_HEADER))
    with context.database.readers() as s:
        context.keys_in_use = context.keys_in_use or any_key(s)
        if not context.keys_in_use:
            require_local(request)
            scope = Scope()
        elif scope is not None and not living(s, scope.project_id):
            raise refuse("forbidden", "the token names a project that is not here")
        elif scope is None and token:
            scope = authenticate(s, token)
    return None if scope is None else replace(scope, quotas=context.settings.quotas)


async def reader(request: Request, scope: Annotated[Scope, Depends(caller)]) -> Scope:
    """A caller who may read what the route shows. Async only to cost no thread. Raises Refused (forbidden)."""
    scope.need("read", _area(request))
    return scope


def writer(request: Request, context: Ctx, scope: Annotated[Scope, Depends(caller)]) -> Scope:
    """A caller who may make, change and delete what the route is about. Raises Refused (forbidden), as `once.enter`."""
    scope.need("write", _area(request))
    once.enter(request, context, scope)
    return scope


def admin(request: Request, context: Ctx, scope: Annotated[Scope, Depends(caller)]) -> Scope:
    """A caller who may hand out keys and read the audit log. Raises Refused (forbidden), as `once.enter`."""
    scope.need("admin")
    once.enter(request, context, scope)
    return scope


def still_welcome(request: Request, context: Context) -> bool:
    """Whether the caller of a long answer would be let in again now."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    credentials = HTTPAuthorizationCredentials(scheme=scheme, credentials=token) if token else None
    try:
        return admitted(request, context, credentials) is not None
    except Refused:
        return False


Reader = Annotated[Scope, Depends(reader)]
Writer = Annotated[Scope, Depends(writer)]
Admin = Annotated[Scope, Depends(admin)]


def _area(request: Request) -> str:
    """What a route is about: its first tag."""
    tags = getattr(request.scope.get("route"), "tags", None) or ["jobs"]  # the event stream, made without a router
    return str(tags[0])


def _touch(context: Context, key_id: str) -> None:
    """Note that a key is in use, about once a minute. A database that cannot take it now is told the next time."""
    now = time.monotonic()
    if now - context.touched.get(key_id, -TOUCH_S) < TOUCH_S:
        return
    context.touched[key_id] = now
    try:
        with context.database.sessions.begin() as s:
            touch(s, key_id)
    except SQLAlchemyError as error:
        log.warning("the use of %s was not noted: %s", key_id, type(error).__name__)


def require_local(request: Request) -> None:
    """Raises Refused (origin_refused) for whoever does not call from this machine, by one of its own names."""
    peer = request.client.host if request.client is not None else "127.0.0.1"  # none: a Unix socket
    host = request.headers.get("host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    origin = request.headers.get("origin")
    if not is_loopback(peer):
        raise refuse("origin_refused", "without API keys only callers on this machine are served")
    if not is_loopback(name):
        raise refuse("origin_refused", "without API keys the Host header must be localhost, 127.0.0.1 or [::1]")
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        raise refuse("origin_refused", "without API keys no other page may call: the Origin header is a foreign one")
