"""The document is complete: a client can be made from it, and it tells the truth."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import TypeAdapter

from core.catalogue import METHODS
from core.recipe import PRESETS, Recipe
from tests.api.results import finished
from tests.api.routes import OPEN, operations
from tests.jobs.world import World

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "numpy", "pyarrow", "onnx", "onnxruntime", "tokenizers", "safetensors", "accelerate")


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_the_app_starts_without_the_ml_stack(tmp_path: Path) -> None:
    """The api image holds none of it."""
    block = f"import sys; sys.modules.update(dict.fromkeys({HEAVY}))"
    code = f"{block}; import api.app; api.app.create_app().openapi()"
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, env={**os.environ, "LADAPRESS_DATA_DIR": str(tmp_path)}
    )


def test_operation_ids_are_the_names_of_the_functions(document: dict[str, Any]) -> None:
    """Stable, unique and legal in any language: clients call them so."""
    ids = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)+", id_) for id_ in ids)
    assert {"create_job", "get_job", "list_jobs", "cancel_job", "put_model_file", "download_file"} <= set(ids)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names <= set(document["components"]["schemas"])
    assert {"Job", "JobPoint", "Report", "Recipe", "Target", "Problem"} <= names
    assert not any("__" in name or "Validation" in name for name in document["components"]["schemas"])


def test_every_operation_declares_its_answer_and_its_problems(client: TestClient) -> None:
    """A typed answer for success, one shape for every refusal, 401 on all that needs a key."""
    for method, path, operation in operations(client):
        responses = operation["responses"]
        good = [responses[status] for status in responses if status.startswith("2")]
        assert good, (method, path)
        for answer in good:
            described = answer.get("content")
            assert described or "204" in responses, (method, path)
            for content in (described or {}).values():
                assert content.get("schema"), (method, path)
        bad = {status: one for status, one in responses.items() if status >= "4"}
        needed = {"500", "503"} if path in OPEN else {"401", "403", "500", "503"}
        assert needed <= set(bad), (method, path)
        for one in bad.values():
            assert one["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }, (method, path)
            assert one["description"]
        if path not in OPEN:
            assert operation["security"] == [{"key": []}], (method, path)
        if "{" in path:
            assert "404" in bad, (method, path)


def test_requests_are_closed_and_answers_are_open(document: dict[str, Any]) -> None:
    """A typing error is refused; a field that a later version adds does not break a generated client."""
    schemas = document["components"]["schemas"]
    for name in ("JobRequest", "Recipe", "Target", "Svd", "ModelCreate", "InspectionRequest"):
        assert schemas[name]["additionalProperties"] is False, name
    for name in ("Job", "JobPoint", "Report", "Sizes", "Latency", "Model", "Problem", "Inspection"):
        assert "additionalProperties" not in schemas[name], name


def test_a_finished_job_is_what_the_document_says(client: TestClient, world: World, document: dict[str, Any]) -> None:
    """Every required field is there, and nothing that is not declared."""
    job = client.get(f"/v1/jobs/{finished(world)[0]}").json()
    declared = document["components"]["schemas"]["Job"]
    assert set(declared["required"]) <= set(job) == set(declared["properties"])
    point = document["components"]["schemas"]["JobPoint"]
    assert set(job["points"][0]) == set(point["properties"])
    assert set(job["report"]) == set(document["components"]["schemas"]["Report"]["properties"])


def test_the_catalogue_is_what_validation_uses(client: TestClient) -> None:
    """Methods with card and schema, presets whose recipes may be sent back as they are."""
    methods = client.get("/v1/methods").json()["data"]
    assert [method["name"] for method in methods] == list(METHODS)
    for method in methods:
        assert len(method["card"]) > 100
        assert method["step_schema"]["properties"]["method"]["const"] == method["name"]
    presets = client.get("/v1/presets").json()["data"]
    assert [preset["name"] for preset in presets] == list(PRESETS)
    for preset in presets:
        assert TypeAdapter(Recipe).validate_python(preset["recipe"]) == PRESETS[preset["name"]].recipe
