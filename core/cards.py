"""`python -m core.cards` prints docs/methods.md: every method's card and fields, every preset, from the code itself."""

from __future__ import annotations

from typing import Any

from core.catalogue import METHODS
from core.recipe import PRESETS


def markdown() -> str:
    """The page as text."""
    return "\n\n".join([_HEAD, *(_method(name) for name in METHODS), _presets(), _splits()]) + "\n"


_HEAD = """# Methods and presets

<!-- written by `python -m core.cards`; a test fails when it is out of date -->

A recipe is a list of steps; a step is one of these methods with its fields. `GET /v1/methods` serves the same."""


def _method(name: str) -> str:
    method = METHODS[name]
    rows = [
        f"| `{field}` | {_legal(schema)} | `{_default(schema)}` | {schema.get('description', '')} |"
        for field, schema in method.model_json_schema()["properties"].items()
        if field != "method"
    ]
    table = ["| field | legal | default | |", "|---|---|---|---|", *rows]
    return f"## {name} ({method.family()})\n\n{method.card()}\n\n" + "\n".join(table)


def _legal(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_legal(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    bounds = [
        f"{sign} {schema[key]:g}"
        for key, sign in (("exclusiveMinimum", ">"), ("minimum", ">="), ("exclusiveMaximum", "<"), ("maximum", "<="))
        if key in schema
    ]
    return " ".join([str(schema["type"]), ", ".join(bounds)]).strip()


def _default(schema: dict[str, Any]) -> str:
    return str(schema.get("default"))


def _presets() -> str:
    rows = [
        f"| `{name}` | {preset.title} | {', '.join(f'{k} {v:g}' for k, v in preset.target.given().items())} "
        f"| {' > '.join(step.name() for step in preset.recipe.steps)} | {preset.source} |"
        for name, preset in PRESETS.items()
    ]
    return "## Presets\n\n" + "\n".join(["| name | what | target | steps | source |", "|---|---|---|---|---|", *rows])


def _splits() -> str:
    tables = []
    for name, method in METHODS.items():
        if method.split is not None:
            rows = [f"| {overall:g} | {keep:g} | {overall / keep:.3g} |" for overall, keep in method.split if overall]
            tables.append("\n".join([f"| share that stays | {name} keep | pruning keep |", "|---|---|---|", *rows]))
    return (
        "## How `auto` is filled\n\n"
        "The plan bisects on one number, the share of the compressible entries that stays. Where a recipe leaves the\n"
        "`keep` of both a factorization and a pruning to it, the share is split as below (linear in between).\n"
        "LadaBERT's own split, learning rate and epochs are not published; these are ours.\n\n"
        + "\n\n".join(tables)
        + "\n\nWhere `bits` of `gptq` is `auto`, bytes are what is spent: the size is `bytes_ratio` or `max_bytes`.\n"
        "The job measures what rounding each matrix to each number of bits, and cutting it to each rank, costs the\n"
        "model (stage `profile`), and buys where a byte saves most; losses of cuts count `cut_weighs` times. Ranks\n"
        "are bought where the recipe has a `weighted_svd` whose `keep` is `auto`. Why there is no dial for masks:\n"
        "[decision 0008](decisions/0008-bytes-by-one-lagrangian.md).\n"
    )


if __name__ == "__main__":
    print(markdown(), end="")
