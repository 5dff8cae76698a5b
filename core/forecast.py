"""What a recipe will give, before it runs: the numbers of its steps, sizes, milliseconds. Pure Python.

Bytes of the packed weights are exact, those of `model.onnx` an upper bound within 1 %. Milliseconds are those of the
latency table and hold for dense layers of any width; of factors the table says nothing, and so neither does a forecast.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from core.family import block_of
from core.hasten import hasten_timed, teacher_ms
from core.method import module_of
from core.plan import ModelShape, Size, fill, misses, ratios, size_of
from core.profile import LatencyTable, Products, Profile
from core.recipe import Recipe, Target
from core.spend import spend


class Forecast(BaseModel):
    """Of one point. `shortfall`: targets that it misses by these figures -> the value reached."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe  # no "auto" left
    target: dict[str, float]
    parameters: int
    nonzero: int
    weight_bytes: int
    file_bytes: int
    parameter_ratio: float
    bytes_ratio: float
    latency_ms: float | None = None
    latency_ratio: float | None = None
    target_met: bool | None  # None where a target is named of which nothing is known before the job
    shortfall: dict[str, float]


def needs_profile(recipe: Recipe, target: Target, shape: ModelShape) -> bool:
    """Whether only a profile tells what this recipe becomes. Raises as `core.plan.fill`."""
    return fill(recipe, target, shape).open_for(target)


def forecast(recipe: Recipe, target: Target, shape: ModelShape, profile: Profile) -> Forecast:
    """The point that a job would make.

    Raises:
        RecipeInvalid, TargetImpossible: see `core.plan.fill` and `core.spend.spend`.
    """
    filled, ms = fill(recipe, target, shape), None
    if filled.narrower and target.times():
        found = hasten_timed(filled, target, shape, profile, lambda widths: _known(profile, widths))
        filled, ms = found.recipe, found.ms
    elif filled.open_for(target):
        filled = spend(filled, target, shape, profile)
    size = size_of(filled, shape)
    if ms is None and profile.latency:
        ms = milliseconds(filled, shape, profile.latency)
    reached = {**ratios(size, shape), **_times(ms, profile.latency)}
    return _forecast(filled, target, size, reached)


def _known(profile: Profile, widths: str) -> float | None:
    share = profile.timed.get(widths)
    return None if share is None else share * teacher_ms(profile)


def _forecast(recipe: Recipe, target: Target, size: Size, reached: dict[str, float]) -> Forecast:
    shortfall = misses(target.given(), reached)
    unknown = target.given().keys() - reached.keys() - {"max_minutes"}  # a budget is kept, not reached
    return Forecast(
        recipe=recipe,
        target=target.given(),
        parameters=size.parameters,
        nonzero=size.nonzero,
        weight_bytes=size.size_bytes,
        file_bytes=size.file_bytes,
        parameter_ratio=reached["parameter_ratio"],
        bytes_ratio=reached["bytes_ratio"],
        latency_ms=reached.get("max_latency_ms"),
        latency_ratio=reached.get("latency_ratio"),
        target_met=None if unknown and not shortfall else not shortfall,
        shortfall=shortfall,
    )


def _times(ms: float | None, table: LatencyTable | None) -> dict[str, float]:
    return {} if ms is None or table is None else {"max_latency_ms": ms, "latency_ratio": table.teacher_ms / ms}


def milliseconds(recipe: Recipe, shape: ModelShape, table: LatencyTable) -> float | None:
    """Of a resolved recipe at batch 1 x 128 tokens; None where it makes factors."""
    tensors = shape.tensors()
    for step in recipe.steps:
        tensors = step.stored(tensors)
    if any(module_of(tensor.name) != tensor.name and tensor.kind == "linear" for tensor in tensors):
        return None
    integer = any(getattr(step, "products", None) == "int8" for step in recipe.steps)
    products: Products = "int8" if integer else "fp32"
    read = [
        (block, tensor.cols // tensor.unit) for tensor in tensors if (block := block_of(tensor.name)) and tensor.unit
    ]
    return table.base[products] + sum(table.of(block.what, units, products) for block, units in read)
