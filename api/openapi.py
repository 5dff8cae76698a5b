"""The OpenAPI document, complete enough to generate a client from: FastAPI's, plus the one shape of problems."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from api.errors import responses
from jobs.problem import Problem

OPEN = ("/healthz", "/readyz", "/.well-known/ladapress-keys.json")  # no key needed


def install(app: FastAPI) -> None:
    """Replace `app.openapi`."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            complete(made())
        assert app.openapi_schema is not None  # noqa: S101 - FastAPI keeps what it made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def complete(document: dict[str, Any]) -> None:
    """Declare problems on every operation, and open the schemas of answers to further fields. In place."""
    schemas: dict[str, Any] = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            common = responses(500, 503) if path in OPEN else responses(401, 403, 429, 500, 503)
            for status, response in common.items():
                operation["responses"].setdefault(str(status), response)
    schemas["Problem"] = Problem.model_json_schema(mode="serialization")
    requested: set[str] = set()
    for operations in document["paths"].values():
        for operation in operations.values():
            requested |= _reachable(schemas, operation.get("requestBody", {}))
    for name, schema in schemas.items():
        if name not in requested and schema.get("additionalProperties") is False:
            del schema["additionalProperties"]  # generated clients would refuse what a later version adds


def _reachable(schemas: dict[str, Any], node: Any) -> set[str]:
    """Names of all component schemas that a part of the document refers to."""
    seen: set[str] = set()
    todo = [node]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            name = str(one.get("$ref", "")).rpartition("/")[2]
            if name and name not in seen:
                seen.add(name)
                todo.append(schemas[name])
            todo.extend(one.values())
        elif isinstance(one, list):
            todo.extend(one)
    return seen
