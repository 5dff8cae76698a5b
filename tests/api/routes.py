"""Every route, read from the OpenAPI document, so that a new one is tested without being listed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fastapi.testclient import TestClient

OPEN = ("/healthz", "/readyz", "/.well-known/ladapress-keys.json")


def operations(client: TestClient) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(METHOD, path template, operation); HEAD of downloads and uploads too."""
    for path, methods in client.app.openapi()["paths"].items():  # type: ignore[attr-defined]
        for method, operation in methods.items():
            yield method.upper(), path, operation
            if operation["operationId"] in ("download_file", "get_upload"):
                yield "HEAD", path, operation


def filled(path: str, value: str) -> str:
    """A path with the same value in every place."""
    return re.sub(r"\{[^}]+\}", lambda _: value, path)


def parameters(operation: dict[str, Any], kind: str) -> list[str]:
    """Names of the query parameters that are an `integer` or a `string`."""
    query = [one for one in operation.get("parameters", []) if one["in"] == "query"]
    return [one["name"] for one in query if (one["schema"].get("type", "string") == "integer") == (kind == "integer")]
