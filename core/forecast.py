"""What a recipe will give, before it runs: the numbers of its steps, sizes, milliseconds. Pure Python.

Bytes of the packed weights are exact, those of `model.onnx` an upper bound within 1 %. Milliseconds are those of the
latency table and hold for dense layers of any width; of factors the table says nothing, and so neither does a forecast.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from core.cost import share_of, training_of
from core.family import block_of
from core.hasten import widths_of
from core.method import module_of
from core.plan import ModelShape, Size, file_limit, fill, misses, ratios, size_of
from core.profile import LEARNT, LatencyTable, Profile, Retained
from core.recipe import Recipe, Target
from core.spend import spend


class Forecast(BaseModel):
    """Of one point. `shortfall`: targets that it misses by these figures -> the value reached.

    `retention_low` and `retention_high` hold the retention that `eval` will show in nine cases of ten. `seconds` and
    `cpu_s` are of a job that makes this point alone, its profile being stored, on the worker that measured it, and by
    one training: a search of retention may take three. `memory_bytes` is the most that it will hold (of the device,
    where that is a GPU). All are None where no profile says what the recipe costs.
    """

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
    retention: float | None = None
    retention_low: float | None = None
    retention_high: float | None = None
    seconds: float | None = None
    cpu_s: float | None = None
    memory_bytes: int | None = None
    target_met: bool | None  # None where a target is named of which nothing is known before the job
    shortfall: dict[str, float]


def forecast(
    recipe: Recipe, target: Target, shape: ModelShape, profile: Profile, rows: Mapping[str, int] | None = None
) -> Forecast:
    """The point that a job would make.

    Args:
        rows: of each role, by which time is told.

    Raises:
        RecipeInvalid, TargetImpossible: see `core.plan.fill` and `core.spend.spend`.
    """
    filled = fill(recipe, target, shape)
    retained = loss = None
    if filled.open_for(target):
        planned = spend(filled, target, shape, profile)
        filled, loss = planned.recipe, planned.loss or 0.0
        kl = None if filled.searcher else profile.kl(loss, trained=recipe.trained)
        retained = None if kl is None else profile.retained(kl)
    size = size_of(filled, shape)
    if filled.searcher and (limit := file_limit(target, shape)) is not None:
        size = size.model_copy(update={"file_bytes": limit})  # which the search will fill
    ms = milliseconds(filled, shape, profile)
    reached = {**ratios(size, shape), **_times(ms, profile.latency)}
    if retained is not None:
        reached["min_retention"] = retained.expected
    found = _forecast(filled, target, size, reached, retained)
    if rows is None or loss is None:
        return found
    return found.model_copy(update=_takes(filled, target, shape, profile, rows, loss))


def _takes(
    recipe: Recipe, target: Target, shape: ModelShape, profile: Profile, rows: Mapping[str, int], loss: float
) -> dict[str, float]:
    costs, training = profile.costs, training_of(recipe)
    if costs is None or training is None or costs.training != training.timed:
        return {}
    share = share_of(recipe.stored(shape.tensors()), shape.tensors())
    kl = profile.kl(_before_training(recipe, profile, loss), trained=False)
    seconds, cpu_s = costs.job(training, rows, share, kl=kl, learnt=LEARNT, minutes=target.max_minutes)
    return {"seconds": seconds, "cpu_s": cpu_s, "memory_bytes": costs.device_bytes or costs.memory_bytes}


def _before_training(recipe: Recipe, profile: Profile, loss: float) -> float:
    """The part of a plan's loss that the student has when it is trained: what is rounded after that is none yet."""
    trains = next(place for place, step in enumerate(recipe.steps) if step.trains)
    behind = any(step.name() == "int8" for step in recipe.steps[trains:]) and recipe.products == "int8"
    return max(0.0, loss - (profile.int8 or 0.0)) if behind else loss


def _forecast(
    recipe: Recipe, target: Target, size: Size, reached: dict[str, float], retained: Retained | None
) -> Forecast:
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
        retention=None if retained is None else retained.expected,
        retention_low=None if retained is None else retained.low,
        retention_high=None if retained is None else retained.high,
        target_met=None if unknown and not shortfall else not shortfall,
        shortfall=shortfall,
    )


def _times(ms: float | None, table: LatencyTable | None) -> dict[str, float]:
    return {} if ms is None or table is None else {"max_latency_ms": ms, "latency_ratio": table.teacher_ms / ms}


def milliseconds(recipe: Recipe, shape: ModelShape, profile: Profile) -> float | None:
    """Of a resolved recipe at batch 1 x 128 tokens, as it was timed, else by the table; None where it makes factors."""
    tensors = recipe.stored(shape.tensors())
    factored = any(module_of(tensor.name) != tensor.name and tensor.kind == "linear" for tensor in tensors)
    if profile.latency is None or factored or recipe.products == "auto":
        return None
    if any(step.reads_units for step in recipe.steps) and (ms := profile.ms_of(widths_of(recipe))) is not None:
        return ms
    table, products = profile.latency, recipe.products
    read = [(block, one.cols // one.unit) for one in tensors if one.unit and (block := block_of(one.name))]
    return table.base[products] + sum(table.of(block.what, units, products) for block, units in read)
