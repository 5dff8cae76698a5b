"""Write client/ladapress/types.py from the api's OpenAPI. Development only: it imports the server.

python client/generate_types.py           # rewrite the file
python client/generate_types.py --check   # exit 1 where the file differs from what the api says now
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TYPES = ROOT / "client" / "ladapress" / "types.py"
HEADER = """The objects of the HTTP interface, generated from the api's OpenAPI.

client/generate_types.py writes this file; do not edit it.
"""
OPTIONS = (
    "--input-file-type=openapi",
    "--output-model-type=pydantic_v2.BaseModel",
    "--target-python-version=3.11",
    "--formatters=builtin",
    "--use-standard-collections",
    "--use-union-operator",
    "--use-schema-description",
    "--use-field-description",
    "--strict-nullable",
    "--use-annotated",
    "--enum-field-as-literal=all",
    "--collapse-root-models",
    "--disable-timestamp",
)


def generate(schema: dict[str, Any]) -> str:
    """The module's source for one OpenAPI document, formatted by this project's ruff."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "openapi.json", Path(folder) / "types.py"
        source.write_text(json.dumps(plain(schema)), encoding="utf-8")
        run("datamodel_code_generator", "--input", str(source), "--output", str(target), *OPTIONS)
        body = target.read_text(encoding="utf-8")
        # The generator names its input file in a comment; ours says more.
        code = "\n".join(line for line in body.splitlines() if not line.startswith("#"))
        target.write_text(f'"""{HEADER}"""\n{code}', encoding="utf-8")
        config = f"--config={ROOT / 'pyproject.toml'}"
        run("ruff", "check", "--quiet", "--fix", "--exit-zero", config, "--select=I,UP,F401", str(target))
        run("ruff", "format", "--quiet", config, str(target))
        return target.read_text(encoding="utf-8")


def plain(node: Any) -> Any:
    """The document without what a client must not hold to.

    Titles only repeat the field names, and the generator makes classes of them. `additionalProperties: false` would
    make a client fail on every field that a later service adds; whether a request is legal, the service decides.
    """
    if isinstance(node, list):
        return [plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    dropped = {key for key in ("title", "additionalProperties") if isinstance(node.get(key), str | bool)}
    kept = {key: plain(value) for key, value in node.items() if key not in dropped}
    if "$ref" in kept:
        kept.pop("default", None)  # of an object; leaving the field out says the same
    return _nullable(kept) if "anyOf" in kept else kept


def _nullable(node: dict[str, Any]) -> dict[str, Any]:
    """`anyOf: [number > 1, null]` as `type: [number, null]` with the bound beside it: a plain field, not a class.

    Where several kinds may stand (a number or "auto"), each keeps its kind and loses its bounds for the same reason.
    """
    kinds = [kind for kind in node["anyOf"] if kind != {"type": "null"}]
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    if len(kinds) == 1 and len(node["anyOf"]) == 2 and isinstance(kinds[0].get("type"), str):
        return {**kinds[0], **rest, "type": [kinds[0]["type"], "null"]}
    shape = ("$ref", "type", "const", "enum", "items", "additionalProperties", "oneOf", "discriminator")
    return {**rest, "anyOf": [{key: kind[key] for key in shape if key in kind} for kind in node["anyOf"]]}


def run(module: str, *arguments: str) -> None:
    """One tool of this environment, loud when it fails."""
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, cwd=ROOT)  # noqa: S603  # own tools


def document() -> dict[str, Any]:
    """The api's OpenAPI document; importing the app starts nothing."""
    sys.path.insert(0, str(ROOT))
    from api.app import create_app  # noqa: PLC0415  # the only server import in client/, and not in the wheel

    schema: dict[str, Any] = create_app().openapi()
    return schema


def main(arguments: list[str]) -> int:
    """Exit code."""
    wanted = generate(document())
    if "--check" not in arguments:
        TYPES.write_text(wanted, encoding="utf-8")
        return 0
    if TYPES.is_file() and TYPES.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"{TYPES.relative_to(ROOT)} is stale: run python client/generate_types.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
