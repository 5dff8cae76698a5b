"""The OpenAPI document, complete enough to generate a client from: FastAPI's, plus the one shape of problems."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from api.errors import responses
from api.once import LEGAL, NAME
from jobs.problem import Problem

KEY_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x7e]+$"}
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
        for method, operation in operations.items():
            common = responses(500, 503) if path in OPEN else responses(401, 403, 429, 500, 503)
            if method == "post" and path not in OPEN:
                _once(operation)
            for status, response in common.items():
                operation["responses"].setdefault(str(status), response)
    _link(document)
    schemas["Problem"] = Problem.model_json_schema(mode="serialization")
    requested: set[str] = set()
    for operations in document["paths"].values():
        for operation in operations.values():
            requested |= _reachable(schemas, operation.get("requestBody", {}))
    for name, schema in schemas.items():
        if name not in requested and schema.get("additionalProperties") is False:
            del schema["additionalProperties"]  # generated clients would refuse what a later version adds


def _link(document: dict[str, Any]) -> None:
    """From every answer that is a new object to all that can be done with it (OpenAPI links)."""
    takers: dict[str, list[str]] = {}
    for operations in document["paths"].values():
        for operation in operations.values():
            for one in operation.get("parameters", []):
                if one["in"] == "path" and one["name"].endswith("_id"):
                    takers.setdefault(one["name"], []).append(operation["operationId"])
    for operations in document["paths"].values():
        for response in operations.get("post", {}).get("responses", {}).values():
            schema = response.get("content", {}).get("application/json", {}).get("schema", {})
            parameter = f"{schema.get('$ref', '').rpartition('/')[2].lower()}_id"
            for taker in takers.get(parameter, []):
                link = {"operationId": taker, "parameters": {parameter: "$response.body#/id"}}
                response.setdefault("links", {})[taker] = link


def _once(operation: dict[str, Any]) -> None:
    """Every POST takes an idempotency key; `api.once` sees to it where the route does not itself."""
    parameters = operation.setdefault("parameters", [])
    if not any(one["name"].lower() == NAME for one in parameters):
        parameters.append({"name": NAME, "in": "header", "required": False, "description": LEGAL, "schema": KEY_SCHEMA})
    for status, response in responses(400, 409, 422).items():
        operation["responses"].setdefault(str(status), response)


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
