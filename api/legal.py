"""Where a request went wrong, and what would have been legal there, read from the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from starlette.routing import compile_path

HEAD_TOO = ("/v1/artifacts/{artifact_id}/files/{path}", "/v1/uploads/{upload_id}")  # the document leaves HEAD out


def pointer(loc: Sequence[int | str], body: Any, *, missing: bool) -> str:
    """JSON pointer (RFC 6901) of a Pydantic location.

    Pydantic puts the tags of unions into its locations (`steps, 0, svd, keep, float`); what the body does not hold is
    left out, except for the last part where the error is that it is missing.
    """
    parts: list[str] = []
    value = body
    for index, part in enumerate(loc):
        inside = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
        if part in inside:
            value = value[part]
        elif not (missing and index == len(loc) - 1):
            continue
        parts.append(str(part)[:80].replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{part}" for part in parts)


def legal_fields(app: FastAPI, request: Request, loc: Sequence[int | str]) -> list[str]:
    """Names of the fields that the request's body may have at `loc`, or an empty list where that is not known."""
    document = app.openapi()
    path = getattr(request.scope.get("route"), "path_format", "")
    operation = document.get("paths", {}).get(path, {}).get(request.method.lower(), {})
    content = operation.get("requestBody", {}).get("content", {})
    node: Mapping[str, Any] | None = content.get("application/json", {}).get("schema")
    for part in loc:
        node = None if node is None else _inside(document, node, part)
    return [] if node is None else list(_resolved(document, node).get("properties", {}))


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """The methods that a path knows. The framework names those of one route only, where a path has several."""
    if (template := template_of(app, path)) is None:
        return []
    methods = {method.upper() for method in app.openapi()["paths"][template]}
    return sorted(methods | {"HEAD"} if template in HEAD_TOO else methods)


def template_of(app: FastAPI, path: str) -> str | None:
    """The path of the document that a request's path is one of, such as "/v1/jobs/{job_id}"."""
    return next((one for one in app.openapi()["paths"] if compile_path(one)[0].fullmatch(path)), None)


def _inside(document: Mapping[str, Any], node: Mapping[str, Any], part: int | str) -> Mapping[str, Any] | None:
    node = _resolved(document, node)
    if isinstance(part, int):
        found = node.get("items")
    else:
        reference = node.get("discriminator", {}).get("mapping", {}).get(part)
        found = {"$ref": reference} if reference else node.get("properties", {}).get(part)
    if isinstance(found, dict):
        return found
    for option in node.get("anyOf", []):
        if (found := _inside(document, option, part)) is not None:
            return found
    return None


def _resolved(document: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references, and the one real option of `X | null`."""
    while True:
        options = [option for option in node.get("anyOf", []) if option.get("type") != "null"]
        if "$ref" in node:
            node = document["components"]["schemas"][node["$ref"].rpartition("/")[2]]
        elif len(options) == 1:
            node = options[0]
        else:
            return node
