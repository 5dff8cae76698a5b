"""Loaded by Schemathesis (SCHEMATHESIS_HOOKS): lets most requests name things that exist, else all would be 404.

LADAPRESS_FUZZ_IDS names a JSON file, kind -> ids, such as {"job": ["job_...", ...]}.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import schemathesis

IDS: dict[str, list[str]] = json.loads(Path(os.environ["LADAPRESS_FUZZ_IDS"]).read_text())
LONGEST_ID = 64
FILES = ["model.onnx", "pytorch/config.json", "model.safetensors", "config.json"]


def pick(kind: str, value: Any) -> Any:
    """One that exists, by what was generated, so that a seed repeats; one time in four what was generated.

    What is no id by its length stays: it was made to break the schema, and has to be refused for that.
    """
    number = sum(repr(value).encode())
    known = IDS.get(kind, []) if 0 < len(str(value)) <= LONGEST_ID else []
    return value if number % 4 == 0 or not known else known[number % len(known)]


@schemathesis.hook
def map_path_parameters(_context: Any, path_parameters: Any) -> Any:
    if not isinstance(path_parameters, dict):
        return path_parameters
    found = {}
    for name, value in path_parameters.items():
        if name.endswith("_id"):
            found[name] = pick(name.removesuffix("_id"), value)
        else:
            found[name] = FILES[len(repr(value)) % len(FILES)] if name == "path" else value
    return found


@schemathesis.hook
def map_body(_context: Any, body: Any) -> Any:
    """Jobs, plans and inspections of what was uploaded."""
    if not isinstance(body, dict):
        return body
    made = dict(body)
    if isinstance(made.get("model"), str):
        made["model"] = pick("model", made["model"])
    if isinstance(made.get("data"), dict):
        roles = ("train", "eval", "select", "unlabelled")
        made["data"] = {
            name: pick("dataset", value) if name in roles and isinstance(value, str) else value
            for name, value in made["data"].items()
        }
    return made


@schemathesis.serializer("application/offset+octet-stream")
def raw(_context: Any, value: Any) -> bytes:
    """Pieces of an upload are bytes as they are."""
    content = getattr(value, "data", value)
    return content if isinstance(content, bytes) else str(content).encode()
