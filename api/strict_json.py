"""Strict JSON before anything else looks at a body. Pure ASGI.

FastAPI answers 500 to NaN, Infinity and lone surrogates (its own 422 echoes them), Python's parser takes the last of
two equal keys, and PostgreSQL stores no U+0000. Here a JSON body is strict UTF-8, within a size and a depth, with
finite numbers, integers of 64 bits and every key once; else 400, 413 or 415 as a problem that points at the place.
Routes that take raw bytes are named by `raw` and pass untouched.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Any

import anyio
from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from api.errors import problem_response
from jobs.problem import Problem

MAX_DEPTH = 64
INT64 = 2**63
SILENCE_S = 30.0  # a sender who is silent for longer is sent away
INLINE_BYTES = 64 << 10  # longer bodies are parsed in a thread, so that nobody else waits for it

Pointer = tuple["Pointer | None", "str | int"]  # (what holds the value, key in it); text only when something is wrong


@dataclass(frozen=True)
class Fault:
    """Stands in the parsed tree where something illegal stood, until the walk has found its place."""

    detail: str


class StrictJson:
    """Middleware: checks the bodies of POST, PUT and PATCH, and hands them on as they came."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, raw: Callable[[Scope], bool]) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.raw = raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH") or self.raw(scope):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > self.max_bytes):
            await problem_response(self._too_large(), scope)(scope, receive, send)
            return
        body = bytearray()
        more = True
        while more:
            try:
                with anyio.fail_after(SILENCE_S):
                    event = await receive()
            except TimeoutError:
                slow = Problem.of("request_timeout", f"no byte came for {SILENCE_S:g} seconds", retryable=True)
                await problem_response(slow, scope)(scope, receive, send)
                return
            if event["type"] == "http.disconnect":
                return
            body += event.get("body", b"")
            more = event.get("more_body", False)
            if len(body) > self.max_bytes:
                await problem_response(self._too_large(), scope)(scope, receive, send)
                return
        scope.setdefault("state", {})["body_sha256"] = hashlib.sha256(body).hexdigest()
        if body:
            problem = _media_type_problem(headers)
            if problem is None:
                problem = check(bytes(body)) if len(body) <= INLINE_BYTES else await run_sync(check, bytes(body))
            if problem is not None:
                await problem_response(problem, scope)(scope, receive, send)
                return
        await self.app(scope, _replay(bytes(body), receive), send)

    def _too_large(self) -> Problem:
        return Problem.of("payload_too_large", f"a JSON body has at most {self.max_bytes} bytes")


def check(body: bytes) -> Problem | None:
    """What is wrong with these bytes as strict JSON, or None."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        return _invalid(f"byte {error.start} is not UTF-8")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
        )
    except json.JSONDecodeError as error:
        return _invalid(f"line {error.lineno}, column {error.colno}: {error.msg}")
    except RecursionError:
        return _invalid(f"nested deeper than {MAX_DEPTH} levels")
    return next(_faults(value), None)


def _faults(root: Any) -> Iterator[Problem]:
    """Walk without recursion: a body within the limit may still be a million values."""
    todo: list[tuple[Any, Pointer | None, int]] = [(root, None, 0)]
    while todo:
        value, pointer, depth = todo.pop()
        if depth > MAX_DEPTH:
            yield _invalid(f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(value, Fault):
            yield _invalid(value.detail, pointer)
        elif isinstance(value, str):
            if detail := _text_fault(value):
                yield _invalid(detail, pointer)
        elif isinstance(value, dict):
            for key, inner in value.items():
                if detail := _text_fault(key):
                    yield _invalid(f"a key: {detail}", pointer)
                todo.append((inner, (pointer, key), depth + 1))
        elif isinstance(value, list):
            todo.extend((inner, (pointer, index), depth + 1) for index, inner in enumerate(value))


def _text_fault(text: str) -> str | None:
    if "\x00" in text:
        return "the text holds U+0000"
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        return "the text holds half of a surrogate pair"
    return None


def _object(pairs: list[tuple[str, Any]]) -> Any:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    seen: set[str] = set()
    twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return Fault(f"the key {json.dumps(twice[:80])} appears twice")


def _constant(name: str) -> Fault:
    return Fault(f"{name} is not JSON; legal: finite numbers")


def _float(text: str) -> float | Fault:
    value = float(text)
    return value if math.isfinite(value) else Fault(f"the number {text[:40]} is too large; legal: up to 1.7e308")


def _int(text: str) -> int | Fault:
    if len(text) <= 20 and -INT64 <= int(text) < INT64:
        return int(text)
    return Fault(f"the integer {text[:40]} is too large; legal: 64 bits")


def _invalid(detail: str, pointer: Pointer | None = None) -> Problem:
    parts: list[str] = []
    while pointer is not None:
        pointer, key = pointer
        parts.append(str(key)[:80].replace("~", "~0").replace("/", "~1"))
    param = "".join(f"/{part}" for part in reversed(parts)) or None
    return Problem.of("json_invalid", f"{param or 'body'}: {detail}", param=param)


def _media_type_problem(headers: Headers) -> Problem | None:
    header = Message()
    header["content-type"] = headers.get("content-type", "")
    charset = str(header.get_param("charset", "utf-8")).lower()
    if header.get_content_type() != "application/json" or charset not in ("utf-8", "utf8"):
        sent = headers.get("content-type", "none")[:80]
        return Problem.of("unsupported_media_type", f"content type {sent!r}; legal: application/json in UTF-8")
    if headers.get("content-encoding", "identity").lower() != "identity":
        sent = headers["content-encoding"][:80]
        return Problem.of("unsupported_media_type", f"content encoding {sent!r}; legal: none")
    return None


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once, as one event; afterwards what really comes, which is the disconnect."""
    sent = False

    async def replay() -> Event:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
