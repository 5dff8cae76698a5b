"""Who asks. With keys: `Authorization: Bearer`. Without: people at this machine only.

Without keys everyone who reaches the port may do everything, so it must be reached from here alone: a loopback bind,
a loopback peer, a `Host` that names this machine (a rebound DNS name does not), and no `Origin` of another page.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api import once
from api.context import Context, Ctx
from jobs.keys import any_key, authenticate, bootstrap
from jobs.problem import Refused, refuse
from jobs.scope import Scope

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
        context.keys_in_use = any_key(s)
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
    """The project and rights of a request. Raises Refused (unauthorized; forbidden for strangers without keys)."""
    with context.database.readers() as s:
        context.keys_in_use = context.keys_in_use or any_key(s)
        if not context.keys_in_use:
            require_local(request)
            request.state.caller = scope = Scope()
            return scope
        found = authenticate(s, credentials.credentials) if credentials is not None else None
    if found is None:
        sent = "the key is unknown, expired or revoked" if credentials else "no key was sent"
        raise refuse("unauthorized", f"{sent}; legal: Authorization: Bearer <key>")
    request.state.caller = found  # for the log
    return found


def reader(scope: Annotated[Scope, Depends(caller)]) -> Scope:
    """A caller who may read. Raises Refused (forbidden)."""
    scope.need("read")
    return scope


def writer(request: Request, context: Ctx, scope: Annotated[Scope, Depends(caller)]) -> Scope:
    """A caller who may make, change and delete. Raises Refused (forbidden), and as `once.enter`."""
    scope.need("write")
    once.enter(request, context, scope)
    return scope


def still_welcome(request: Request, context: Context) -> bool:
    """Whether the caller of a long answer would be let in again now."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        caller(
            request,
            context,
            HTTPAuthorizationCredentials(scheme=scheme, credentials=token) if token else None,
        )
    except Refused:
        return False
    return True


Reader = Annotated[Scope, Depends(reader)]
Writer = Annotated[Scope, Depends(writer)]


def is_loopback(host: str) -> bool:
    """Whether a name or address of `Host` or of a bind is this machine's own. Other names are not looked up."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


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
