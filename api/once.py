"""`Idempotency-Key` on every POST: the same key and body act once and have one answer, whichever process they meet.

The writer's dependency begins (it knows the project), the middleware sees the answer and keeps it. Answers that are no
success are not kept: nothing was done, and the corrected request may use the key again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from contextlib import suppress

from anyio import CancelScope
from anyio.to_thread import run_sync
from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.context import Context
from jobs import replays
from jobs.ids import new_id
from jobs.problem import refuse
from jobs.scope import Scope as Caller

log = logging.getLogger("ladapress.api")
NAME = "idempotency-key"
KEY = re.compile(r"[\x21-\x7e]{1,255}")
LEGAL = "the same key and body act once and have one answer, for two days; 1 to 255 visible ASCII characters"
KEPT_HEADERS = ("content-type", "location", "tus-resumable", "upload-offset", "upload-expires")
TOLD_IN_HEADERS = ("content-type", "content-length", "content-digest", "upload-length", "upload-metadata")
PAUSES_S = (0.05, 0.5, 1.5)  # between attempts to keep an answer
RENEW_S = replays.IN_FLIGHT_S / 3
ASK_AGAIN = {"x-ask-again": True}  # of a route whose 202 asks for the same POST again: that is no answer to keep
SECRET = {"x-secret": True}  # `openapi_extra` of a route whose answer is shown once and stored nowhere


class Replayed(Exception):
    """The request was answered before; it carries that answer."""

    def __init__(self, answer: replays.Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def check_key(key: str | None) -> None:
    """Raises Refused (header_invalid)."""
    if key is not None and not KEY.fullmatch(key):
        legal = "Idempotency-Key: legal are 1 to 255 visible ASCII characters"
        raise refuse("header_invalid", legal, param=f"header.{NAME}")


def enter(request: Request, context: Context, caller: Caller) -> None:
    """Note a POST that carries a key as in flight.

    Raises:
        Replayed: it was answered before.
        Refused: header_invalid, idempotency_key_reused, idempotency_in_flight.
    """
    key, route = request.headers.get(NAME), request.scope.get("route")
    if key is None or request.method != "POST" or not isinstance(route, APIRoute) or keeps_its_own(route):
        return
    check_key(key)
    told = [request.headers.get(name, "") for name in TOLD_IN_HEADERS]  # all that is known of raw bytes to come
    body = getattr(request.state, "body_sha256", "")
    fingerprint = _digest("\n".join([request.url.query, body, *told]))
    new = new_id("rep")
    try:
        found = _begin(context, caller, request.url.path, key, fingerprint, new)
    except OperationalError:  # whether it was noted nobody knows: if it was, then as this one
        found = _begin(context, caller, request.url.path, key, fingerprint, new)
    if isinstance(found, replays.Answer):
        raise Replayed(found)
    request.state.once = found


def _begin(context: Context, caller: Caller, path: str, key: str, fingerprint: str, new: str) -> replays.Answer | str:
    with context.database.sessions.begin() as s:
        return replays.begin(s, caller, _digest(path), key, fingerprint, new)


def keeps_its_own(route: APIRoute) -> bool:
    """Whether a route takes the key itself: it writes the key into the row that it makes."""
    return any(field.alias.lower() == NAME for field in route.dependant.header_params)


def response(answer: replays.Answer) -> Response:
    """The answer of before. Raises Refused (secret_shown) where it held a secret."""
    if answer.body is None:
        where = answer.headers.get("location", "it")
        raise refuse("secret_shown", f"this Idempotency-Key made {where}; its secret was shown in the first answer")
    headers = {**answer.headers, "Idempotent-Replayed": "true"}
    return Response(answer.body, status_code=answer.status, headers=headers)


class Once:
    """Middleware: keeps the answers of requests that `enter` has noted."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        self.context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or NAME not in Headers(scope=scope):
            await self.app(scope, receive, send)
            return
        start: Message = {}
        body = bytearray()
        kept = False

        async def watch(message: Message) -> None:
            nonlocal start, kept
            if scope.get("state", {}).get("once") is None:
                await send(message)
                return
            if message["type"] == "http.response.start":
                start = message
                return
            body.extend(message.get("body", b""))
            if message.get("more_body", False):
                return
            kept = True
            await self._end(scope, start, bytes(body))  # before the caller can act on the answer
            await send(start)
            await send({"type": "http.response.body", "body": bytes(body)})

        renewing = asyncio.create_task(self._renew(scope))
        try:
            await self.app(scope, receive, watch)
        finally:
            renewing.cancel()
            if not kept and scope.get("state", {}).get("once") is not None:
                with CancelScope(shield=True):
                    await self._end(scope, {"status": 500}, b"")

    async def _renew(self, scope: Scope) -> None:
        """Say that the request is still at work: an upload may take minutes."""
        while True:
            await asyncio.sleep(RENEW_S)
            if (replay_id := scope.get("state", {}).get("once")) is not None:
                with suppress(SQLAlchemyError):
                    await run_sync(self._prolong, replay_id)

    def _prolong(self, replay_id: str) -> None:
        with self.context.database.sessions.begin() as s:
            replays.renew(s, replay_id)

    async def _end(self, scope: Scope, start: Message, body: bytes) -> None:
        answer = None
        extra = getattr(scope.get("route"), "openapi_extra", None) or {}
        asks_again = start["status"] == 202 and extra.get("x-ask-again", False)
        if 200 <= start["status"] < 300 and not asks_again:
            sent = Headers(raw=start["headers"])
            headers = {name: sent[name] for name in KEPT_HEADERS if name in sent}
            answer = replays.Answer(start["status"], headers, None if extra.get("x-secret", False) else body.decode())
        await self._write(scope["state"]["once"], answer)

    async def _write(self, replay_id: str, answer: replays.Answer | None) -> None:
        """Writing it again changes nothing, so a commit of which nobody knows what came is made again.

        Where it cannot be written the caller gets the answer all the same: what was asked for is done.
        """
        for pause in (*PAUSES_S, None):
            try:
                await run_sync(self._write_now, replay_id, answer)
            except SQLAlchemyError as error:
                if pause is None:
                    log.warning("the answer to %s was not kept: %s", replay_id, type(error).__name__)
                    return
                await asyncio.sleep(pause)
            else:
                return

    def _write_now(self, replay_id: str, answer: replays.Answer | None) -> None:
        with self.context.database.sessions.begin() as s:
            replays.end(s, replay_id, answer)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
