"""From a profile and a budget of bytes to the rank and the bits of every matrix: one Lagrangian over all of them.

Each matrix offers every way to store it: dense or two factors of a rank, each in so many bits. A way costs the bytes
that it takes in `model.onnx` and loses what the profile says; `core.allocate` buys where a byte saves most (papers.md
10.7: closed form in place of a search; Everett 1963). Pure Python, some milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from core.allocate import Option, allocate
from core.errors import TargetImpossible
from core.factorize.svd import two_factors
from core.hasten import hasten_timed
from core.method import LEVELS, Method, Tensor
from core.plan import TENSOR_BYTES, UNPACK_BYTES, ModelShape, file_limit, size_of
from core.profile import Curve, Profile
from core.recipe import Recipe, Target


@dataclass(frozen=True)
class Way:
    """How a matrix is stored: rank None is dense."""

    rank: int | None
    bits: float


def spend(
    recipe: Recipe,
    target: Target,
    shape: ModelShape,
    profile: Profile,
    ms_of: Callable[[str], float | None] | None = None,
) -> Recipe:
    """The recipe with no "auto" left: ranks and bits of every matrix, the least loss within the target's bytes; or,
    where milliseconds are asked for, heads and neurons (`core.hasten`).

    Args:
        ms_of: milliseconds of planned widths; those that the profile holds where None.

    Raises:
        TargetImpossible: even the fewest bytes that the recipe can make of this model are too many.
    """
    if recipe.is_paced(target):
        return hasten_timed(recipe, target, shape, profile, ms_of or profile.ms_of).recipe
    limit = file_limit(target, shape)
    bits = recipe.spender
    if bits is None or limit is None:
        return recipe
    factors = next((step for step in recipe.steps if step.spends_ranks), None)
    items = {curve.name: list(_options(curve, bits, factors)) for curve in profile.curves}

    def made(chosen: Mapping[str, Option[Way]]) -> Recipe:
        return _resolved(recipe, bits, factors, {name: option.what for name, option in chosen.items()})

    least = made({name: min(options, key=lambda one: one.cost) for name, options in items.items()})
    found = size_of(least, shape).file_bytes
    if found > limit:
        raise TargetImpossible(
            f"{limit} bytes cannot be reached by this recipe: the limit for this model is {found}", param="/target"
        )
    budget = limit
    while (chosen := allocate(items, budget)) is not None:
        resolved = made(chosen)
        over = size_of(resolved, shape).file_bytes - limit
        if over <= 0:
            return resolved
        budget -= over  # what stands beside the matrices, seen as soon as they are chosen
    return least


def _options(curve: Curve, bits: Method, factors: Method | None) -> Iterator[Option[Way]]:
    dense = Tensor(curve.name, curve.rows, curve.cols, curve.rows * curve.cols, curve.kind)
    for width, loss in curve.dense.items():
        yield Option(Way(None, width), _cost([dense], bits, width), loss)
    if factors is None or (curve.kind == "embedding" and not getattr(factors, "embedding", True)):
        return
    weighs = float(getattr(bits, "cut_weighs", 1.0))
    for rank, cut in curve.cut.items():
        if rank * (curve.rows + curve.cols) >= curve.rows * curve.cols:
            continue
        for width, rounded in curve.factors.items():
            loss = weighs * cut + rounded * (1 - cut / curve.whole if curve.whole else 1)
            yield Option(Way(rank, width), _cost(two_factors(dense, rank), bits, width), loss)


def _cost(tensors: list[Tensor], bits: Method, width: float) -> int:
    group = int(getattr(bits, "group"))  # noqa: B009 - of whichever method quantises
    coded = [replace(tensor, levels=LEVELS[width], group=min(group, tensor.cols)) for tensor in tensors]
    return sum(tensor.size_bytes + UNPACK_BYTES + TENSOR_BYTES for tensor in coded)


def _resolved(recipe: Recipe, bits: Method, factors: Method | None, ways: Mapping[str, Way]) -> Recipe:
    widths = {name: way.bits for name, way in ways.items()}
    ranks = {name: way.rank for name, way in ways.items() if way.rank is not None}

    def filled(step: Method) -> Method:
        if step is bits:
            return step.model_copy(update={"bits": 8, "each": widths})
        return step.model_copy(update={"keep": 1.0, "each": ranks}) if step is factors else step

    return recipe.model_copy(update={"steps": tuple(map(filled, recipe.steps))})
