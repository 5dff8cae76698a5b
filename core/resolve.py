"""What a recipe leaves to the job: the profile is measured, as far as the recipe asks for it, and the plan is made."""

from __future__ import annotations

from pathlib import Path

from core.factorize.weighted_svd import WeightedSvd
from core.measure.latency_table import latency_table
from core.plan import ModelShape
from core.probe import Loss, Prober
from core.profile import LatencyTable, Profile
from core.quantize.gptq import Gptq
from core.quantize.int8 import Int8
from core.recipe import Recipe, Target
from core.sensitivity import curves
from core.shared import Shared
from core.spend import spend
from core.structure.structured import Structured
from core.unit_curves import rounded, unit_curves


def resolve(recipe: Recipe, target: Target, shape: ModelShape, shared: Shared, teacher: Path | None = None) -> Recipe:
    """The recipe with no "auto" left. What is measured is measured once for all points of a job.

    Args:
        teacher: its model.onnx, where milliseconds may be asked for.

    Raises:
        TargetImpossible: see `core.spend.spend`.
    """
    if not recipe.open_for(target):
        return recipe
    return spend(recipe, target, shape, profile(recipe, target, shape, shared, teacher))


def profile(recipe: Recipe, target: Target, shape: ModelShape, shared: Shared, teacher: Path | None) -> Profile:
    """Of what `recipe` decides for `target`."""

    def prober() -> Prober:
        model = shared.student().model.eval().requires_grad_(False)
        return Prober(model, Loss(shared))

    def probe() -> Prober:
        return shared.once("prober", prober)

    bits, units = recipe.spender, next((step for step in recipe.steps if isinstance(step, Structured)), None)
    factors = next((step for step in recipe.steps if isinstance(step, WeightedSvd)), None)
    int8 = any(isinstance(step, Int8) for step in recipe.steps)
    found = Profile(curves=())
    if isinstance(bits, Gptq):
        key = ("curves", factors and factors.model_dump_json(), bits.model_dump_json())
        found = found.model_copy(update={"curves": shared.once(key, lambda: curves(shared, factors, bits, probe()))})
    if units is not None and units.is_open:
        ways = shared.once(("units", units.model_dump_json()), lambda: unit_curves(shared, units, probe()))
        found = found.model_copy(update={"units": ways})
        if int8:
            found = found.model_copy(update={"int8": shared.once("int8", lambda: rounded(shared, probe().loss))})
        if teacher is not None and target.times():
            table: LatencyTable = shared.once("latency", lambda: latency_table(teacher, shape))
            found = found.model_copy(update={"latency": table})
    return found
