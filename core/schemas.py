"""`python -m core.schemas FOLDER`: the JSON Schemas of what an artifact says of itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from core.manifest import Manifest
from core.report import Report

SCHEMAS: dict[str, type[BaseModel]] = {"report": Report, "manifest": Manifest}


def schema(name: str) -> str:
    """As a file holds it."""
    found = SCHEMAS[name].model_json_schema(mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **found}, indent=1) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCHEMAS:
        (folder / f"{name}.schema.json").write_text(schema(name), encoding="utf-8")
