"""Every refusal leaves through this file, as `application/problem+json` of one shape (RFC 9457, `jobs.problem`).

Values are echoed shortened and only where they can be encoded; the text of an unexpected exception is never sent.
"""

from __future__ import annotations

import errno
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from api import once
from api.legal import allowed_methods, legal_fields, pointer
from api.rates import RateLimited
from core.errors import CompressionError
from jobs.problem import CODES, Problem, Refused

MEDIA_TYPE = "application/problem+json"
TUS_PATH, TUS_VERSION = "/v1/uploads", "1.0.0"  # every answer there names the version, refusals too
RETRY_AFTER_S = {
    "unavailable": 2,
    "too_many_requests": 5,
    "storage_full": 60,
    "idempotency_in_flight": 1,
    "upload_busy": 1,
    "quota_exceeded": 30,
}
# For refusals of the framework, which know a status only.
CODE_OF_STATUS = {
    400: "json_invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "payload_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    422: "request_invalid",
    429: "too_many_requests",
    503: "unavailable",
}
MAX_VALUE = 80  # characters of a value that is quoted back
MAX_ERRORS = 20

log = logging.getLogger("ladapress.api")


class StreamEnded(Exception):
    """A stream was asked to go on after its last event; 204 tells an EventSource to stop asking."""


def problem_response(problem: Problem, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    """The HTTP form of a problem, with the id of the request that caused it."""
    request_id = scope.get("state", {}).get("request_id")
    body = problem.model_copy(update={"request_id": request_id}).as_dict()
    sent = dict(headers or {})
    if scope.get("path", "").startswith(TUS_PATH):
        sent["Tus-Resumable"] = TUS_VERSION
    if problem.code in RETRY_AFTER_S:
        sent.setdefault("Retry-After", str(RETRY_AFTER_S[problem.code]))
    if problem.code == "unauthorized":
        sent.setdefault("WWW-Authenticate", "Bearer")
    if problem.code == "tus_version":
        sent["Tus-Version"] = TUS_VERSION
    if problem.code == "request_timeout":
        sent["Connection"] = "close"  # what is still to come would be read as the next request's beginning
    return Response(json.dumps(body), status_code=problem.status, media_type=MEDIA_TYPE, headers=sent)


def install(app: FastAPI) -> None:
    """Make every error of the app a problem."""

    def answer(request: Request, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
        return problem_response(problem, request.scope, headers)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)  # noqa: S101 - registered for this type
        return answer(request, error.problem)

    async def too_often(request: Request, error: Exception) -> Response:
        assert isinstance(error, RateLimited)  # noqa: S101
        return answer(request, error.problem, error.headers)

    async def compression(request: Request, error: Exception) -> Response:
        assert isinstance(error, CompressionError)  # noqa: S101
        return answer(request, Problem.from_error(error))

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return answer(request, validation_problem(app, request, error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        code = CODE_OF_STATUS.get(error.status_code, "internal")
        detail = f"{request.method} {shorten(request.url.path)}: {CODES[code][1].lower()}"
        headers = dict(error.headers or {})
        if error.status_code == 405 and (methods := allowed_methods(app, request.url.path)):
            headers["Allow"] = ", ".join(methods)
        return answer(request, Problem.of(code, detail), headers)

    async def database(request: Request, error: Exception) -> Response:
        down = not isinstance(error, DBAPIError) or isinstance(error, (OperationalError, InterfaceError))
        if not down and not getattr(error, "connection_invalidated", False):
            return await unexpected(request, error)
        log.warning("request %s: database: %s", _request_id(request), type(error).__name__)
        return answer(request, Problem.of("unavailable", "the database does not answer; try again", retryable=True))

    async def operating_system(request: Request, error: Exception) -> Response:
        assert isinstance(error, OSError)  # noqa: S101
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return answer(request, Problem.of("storage_full", "no room is left", retryable=True))
        return await unexpected(request, error)

    async def unexpected(request: Request, error: Exception) -> Response:
        log.error("request %s failed", _request_id(request), exc_info=error)
        detail = "the service's log holds the cause under this request_id"
        headers = {"X-Request-Id": _request_id(request), "X-Content-Type-Options": "nosniff"}
        return answer(request, Problem.of("internal", detail), headers)

    async def replayed(request: Request, error: Exception) -> Response:
        assert isinstance(error, once.Replayed)  # noqa: S101
        try:
            return once.response(error.answer)
        except Refused as refusal:
            return answer(request, refusal.problem)

    async def ended(_request: Request, _error: Exception) -> Response:
        return Response(status_code=204)

    async def gone(_request: Request, _error: Exception) -> Response:
        return Response(status_code=400)  # nobody is there to read it

    app.add_exception_handler(once.Replayed, replayed)
    app.add_exception_handler(StreamEnded, ended)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(RateLimited, too_often)
    app.add_exception_handler(CompressionError, compression)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(DBAPIError, database)
    app.add_exception_handler(PoolTimeout, database)
    app.add_exception_handler(SQLAlchemyError, unexpected)
    app.add_exception_handler(OSError, operating_system)
    app.add_exception_handler(Exception, unexpected)


def validation_problem(app: FastAPI, request: Request, error: RequestValidationError) -> Problem:
    """422 that names each field (JSON pointer, or query.limit, path.id, header.name), the value and the legal form."""
    found: dict[str, list[str]] = {}
    for entry in error.errors()[: 5 * MAX_ERRORS]:
        if entry["type"] == "too_short" and len(entry["input"]) >= entry["ctx"]["min_length"]:
            continue  # items were dropped for errors of their own, which are listed
        where, detail = _finding(app, request, entry, error.body)
        details = found.setdefault(where, [])
        if detail not in details:
            details.append(detail)
    errors = tuple({"param": where, "detail": "; or ".join(details)} for where, details in found.items())[:MAX_ERRORS]
    first = errors[0]
    more = f" (and {len(errors) - 1} more, see errors)" if len(errors) > 1 else ""
    return Problem.of(
        "request_invalid", f"{first['param'] or 'body'}: {first['detail']}{more}", param=first["param"], errors=errors
    )


def _finding(app: FastAPI, request: Request, entry: Mapping[str, Any], body: Any) -> tuple[str, str]:
    source, *loc = entry["loc"]
    kind, value = entry["type"], entry.get("input")
    message = re.sub("^(Tuple|List|Dictionary)", "It", str(entry["msg"]).removeprefix("Value error, "))
    missing = kind in ("missing", "union_tag_not_found")
    if kind.startswith("union_tag") and isinstance(value, dict):
        field = entry["ctx"]["discriminator"].strip("'")
        loc, value = [*loc, field], value.get(field)
        message = f"legal: {entry['ctx'].get('expected_tags', '')}"
    if source != "body":
        where = ".".join([str(source), *(str(part) for part in loc)])
    else:
        where = pointer(loc, body, missing=missing)
    if missing:
        return _plain(where, 200), "is required and was not sent"
    if kind == "extra_forbidden":
        legal = legal_fields(app, request, loc[:-1])
        message = f"unknown field; legal fields: {', '.join(legal)}" if legal else "unknown field"
    return _plain(where, 200), f"{_plain(message, 500)}; got {shorten(value)}"


def shorten(value: Any) -> str:
    """A value as it may be quoted in an error: short, and always encodable."""
    match value:
        case dict():
            return f"an object of {len(value)} fields"
        case list() | tuple():
            return f"an array of {len(value)}"
        case str():
            quoted = json.dumps(value[:MAX_VALUE], ensure_ascii=False)
            return _plain(quoted, MAX_VALUE * 6) + ("…" if len(value) > MAX_VALUE else "")
        case bytes():
            return f"{len(value)} bytes"
        case None | bool() | int() | float():
            return _plain(json.dumps(value), MAX_VALUE)
        case _:
            return f"a {type(value).__name__}"


def _plain(text: str, limit: int) -> str:
    return text[:limit].replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _request_id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: these statuses carry a problem (`api.openapi` adds the schema)."""
    schema = {"$ref": "#/components/schemas/Problem"}
    titles: dict[int, Sequence[str]] = {
        status: [title for code_status, title in CODES.values() if code_status == status] for status in statuses
    }
    return {
        status: {"description": ". ".join(titles[status]), "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }
