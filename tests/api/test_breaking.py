"""The document of the last release is kept: docs/openapi.json. What would break its callers fails here."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from openapi_spec_validator import validate

from tests.api.breaking import breaks

RELEASED = Path(__file__).parents[2] / "docs" / "openapi.json"
Document = dict[str, Any]


@pytest.fixture(scope="module")
def released() -> Document:
    found: Document = json.loads(RELEASED.read_text())
    return found


def test_the_document_is_openapi(client: TestClient) -> None:
    """3.1, by the official schemas and a validator that is not ours."""
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_nothing_that_a_caller_of_the_last_release_relies_on_has_gone(client: TestClient, released: Document) -> None:
    """To release a break on purpose: a new major version, and the new document in docs/openapi.json."""
    assert breaks(released, client.get("/openapi.json").json()) == []


def _operation(document: Document, path: str, method: str) -> Document:
    found: Document = document["paths"][path][method]
    return found


BREAKS: dict[str, Callable[[Document], object]] = {
    "POST /v1/jobs/{job_id}/cancel: gone": lambda d: d["paths"].pop("/v1/jobs/{job_id}/cancel"),
    "GET /v1/jobs: query status: gone": lambda d: _operation(d, "/v1/jobs", "get")["parameters"].remove(
        next(one for one in _operation(d, "/v1/jobs", "get")["parameters"] if one["name"] == "status")
    ),
    "GET /v1/models: operationId list_models is now models": lambda d: _operation(d, "/v1/models", "get").update(
        operationId="models"
    ),
    "POST /v1/jobs: body.seed: is needed now": lambda d: d["components"]["schemas"]["JobRequest"]["required"].append(
        "seed"
    ),
    "POST /v1/jobs: body.seed: maximum is now 5": lambda d: d["components"]["schemas"]["JobRequest"]["properties"][
        "seed"
    ].update(maximum=5),
    "POST /v1/jobs: body.cache: no longer takes [\"'bypass'\"]": lambda d: d["components"]["schemas"]["JobRequest"][
        "properties"
    ]["cache"].update(enum=["use"]),
    "POST /v1/jobs: body.name: gone": lambda d: d["components"]["schemas"]["JobRequest"]["properties"].pop("name"),
    "POST /v1/jobs: body.team: is new and needed": lambda d: d["components"]["schemas"]["JobRequest"][
        "required"
    ].append("team"),
    "GET /v1/datasets: 200.data[].size_bytes: is no longer promised": lambda d: d["components"]["schemas"]["Dataset"][
        "required"
    ].remove("size_bytes"),
    "GET /v1/datasets: 200.data[].size_bytes: string is new": lambda d: d["components"]["schemas"]["Dataset"][
        "properties"
    ]["size_bytes"].update(type=["integer", "string"]),
    "POST /v1/models: 201: gone": lambda d: _operation(d, "/v1/models", "post")["responses"].pop("201"),
}


@pytest.mark.parametrize("line", BREAKS)
def test_each_sort_of_break_is_seen(released: Document, line: str) -> None:
    """Planted into the released document; the same document has none."""
    changed = copy.deepcopy(released)
    BREAKS[line](changed)
    found = breaks(released, changed)
    assert any(one == line or one.endswith(line.partition(": ")[2]) for one in found), found


def test_what_is_added_breaks_nobody(released: Document) -> None:
    """New operations, optional fields and parameters, wider limits, further answer fields."""
    changed = copy.deepcopy(released)
    changed["paths"]["/v1/new"] = copy.deepcopy(changed["paths"]["/v1/jobs"])
    schemas = changed["components"]["schemas"]
    schemas["JobRequest"]["properties"]["team"] = {"type": "string"}
    schemas["JobRequest"]["properties"]["cache"]["enum"] = ["use", "bypass", "refresh"]
    schemas["JobRequest"]["properties"]["seed"].pop("maximum", None)
    schemas["JobRequest"]["properties"]["seed"].pop("exclusiveMaximum", None)
    schemas["Dataset"]["properties"]["rows"] = {"type": "integer"}
    schemas["Dataset"]["required"].append("rows")
    _operation(changed, "/v1/jobs", "get")["parameters"].append(
        {"in": "query", "name": "team", "required": False, "schema": {"type": "string"}}
    )
    assert breaks(released, changed) == []
    assert breaks(released, released) == []
