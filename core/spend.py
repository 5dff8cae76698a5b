"""From a profile and a budget of bytes to the rank and the bits of every matrix: one Lagrangian over all of them.

Each matrix offers every way to store it: dense or two factors of a rank, each in so many bits. A way costs the bytes
that it takes in `model.onnx` and loses what the profile says; `core.allocate` buys where a byte saves most (papers.md
10.7: closed form in place of a search; Everett 1963). Pure Python, some milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.allocate import Option, allocate
from core.errors import TargetImpossible
from core.hasten import Planned, coded_bytes, hasten_timed
from core.method import Method
from core.plan import ModelShape, file_limit, size_of
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
    most_loss: float | None = None,
) -> Planned:
    """The recipe with no "auto" left: ranks and bits of every matrix, the least loss within the target's bytes; or,
    where milliseconds are asked for, heads and neurons (`core.hasten`).

    Args:
        ms_of: milliseconds of planned widths; those that the profile holds where None.
        most_loss: where the target leaves a dial free (`Recipe.aim`), it is turned as far as this loss allows; where
            None, as far as the profile promises the retention.

    Raises:
        TargetImpossible: even the fewest bytes that the recipe can make of this model are too many.
    """
    if recipe.searcher is not None:
        known = profile.assigned.get(question(recipe, target, shape), ())
        return Planned(recipe.with_assigned(known[0].each), known[0].loss, assigned=known) if known else Planned(recipe)
    if most_loss is None and recipe.aim(target) and target.min_retention is not None:
        most_loss = profile.most_loss(target.min_retention, trained=recipe.trained)
    if recipe.is_paced(target):
        return hasten_timed(recipe, target, shape, profile, ms_of or profile.ms_of, most_loss)
    limit, bits = file_limit(target, shape), recipe.spender
    if bits is None or (limit is None and most_loss is None):
        return Planned(recipe)
    factors = next((step for step in recipe.steps if step.spends_ranks), None)
    items = {curve.name: list(_options(curve, bits, factors)) for curve in profile.curves}

    def made(chosen: Mapping[str, Option[Way]]) -> Planned:
        resolved = _resolved(recipe, factors, {name: option.what for name, option in chosen.items()})
        return Planned(resolved, sum(option.loss for option in chosen.values()))

    if limit is None:
        return made(_fewest(items, most_loss or 0.0))
    least = made({name: min(options, key=lambda one: one.cost) for name, options in items.items()})
    found = size_of(least.recipe, shape).file_bytes
    if found > limit:
        raise TargetImpossible(
            f"{limit} bytes cannot be reached by this recipe: the limit for this model is {found}", param="/target"
        )
    budget = limit
    while (chosen := allocate(items, budget)) is not None:
        planned = made(chosen)
        over = size_of(planned.recipe, shape).file_bytes - limit
        if over <= 0:
            return planned
        budget -= over  # what stands beside the matrices, seen as soon as they are chosen
    return least


def question(recipe: Recipe, target: Target, shape: ModelShape) -> str:
    """What a search was asked for, but for what a profile is stored by: the bytes of the file, where they decide."""
    limit = file_limit(target, shape)
    return "" if limit is None or getattr(recipe.searcher, "bits", "auto") != "auto" else str(limit)


def _fewest(items: Mapping[str, Sequence[Option[Way]]], most_loss: float) -> dict[str, Option[Way]]:
    """The fewest bytes of such a loss: bytes are what is lost and loss what is paid. The least loss if that is more."""
    turned = {name: [Option(one, one.loss, one.cost) for one in options] for name, options in items.items()}
    found = allocate(turned, most_loss)
    if found is None:
        return {name: min(options, key=lambda one: (one.loss, one.cost)) for name, options in items.items()}
    return {name: one.what for name, one in found.items()}


def _options(curve: Curve, bits: Method, factors: Method | None) -> Iterator[Option[Way]]:
    group = int(getattr(bits, "group"))  # noqa: B009 - of whichever method quantises
    for width, loss in curve.dense.items():
        yield Option(Way(None, width), coded_bytes(curve.rows, curve.cols, width, group), loss)
    if factors is None or (curve.kind == "embedding" and not getattr(factors, "embedding", True)):
        return
    weighs = float(getattr(bits, "cut_weighs", 1.0))
    for rank, cut in curve.cut.items():
        if rank * (curve.rows + curve.cols) >= curve.rows * curve.cols:
            continue
        for width, rounded in curve.factors.items():
            loss = weighs * cut + rounded * (1 - cut / curve.whole if curve.whole else 1)
            cost = coded_bytes(curve.rows, rank, width, group) + coded_bytes(rank, curve.cols, width, group)
            yield Option(Way(rank, width), cost, loss)


def _resolved(recipe: Recipe, factors: Method | None, ways: Mapping[str, Way]) -> Recipe:
    ranks = {name: way.rank for name, way in ways.items() if way.rank is not None}
    cut = (step.model_copy(update={"keep": 1.0, "each": ranks}) if step is factors else step for step in recipe.steps)
    return recipe.model_copy(update={"steps": tuple(cut)}).with_bits({name: way.bits for name, way in ways.items()})
