"""From a profile and a budget of milliseconds to the heads and neurons of every layer, and fp32 or int8 products.

Every block offers each number of units: it takes what the latency table says and loses what its curve says.
`core.allocate` buys units where a millisecond saves most. Where a target names a size, that is a second budget, on
which the bits of the word embedding draw too, if they are "auto". Pure Python, some ten milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from core.allocate import Option, allocate, allocate_both
from core.errors import RecipeInvalid
from core.family import FAMILIES, block_of
from core.plan import ModelShape, file_limit, misses, ratios, size_of
from core.profile import PRODUCTS, LatencyTable, Products, Profile
from core.recipe import Recipe, Target

SPARE = 0.97  # of the milliseconds: what two timings of one model differ by
IN_TIME, TRIES = 0.99, 3  # a plan whose widths take more of the target's milliseconds is made anew, so many times
Chosen = Mapping[str, float]  # reader -> units that stay; word embedding -> bits


@dataclass(frozen=True)
class Paced:
    """A recipe without "auto", and what the profile says of it."""

    recipe: Recipe
    ms: float
    loss: float
    too_large: bool
    least_ms: float  # of the fastest


def hasten(recipe: Recipe, target: Target, shape: ModelShape, profile: Profile, share: float = 1.0) -> Paced:
    """The recipe that loses least of those within the target's milliseconds and sizes; where none is, the fastest.

    Args:
        share: of the milliseconds; below 1 where a plan of all of them took longer than the table says.
    """
    limit = share * most_ms(target, table_of(profile).teacher_ms)
    plans = [_Plan(recipe, target, shape, profile, one) for one in PRODUCTS if recipe.products in (one, "auto")]
    found = [plan.paced(limit) for plan in plans]
    return min(found, key=lambda one: (one.ms > limit and one.ms, one.too_large, one.loss))


def hasten_timed(
    recipe: Recipe, target: Target, shape: ModelShape, profile: Profile, ms_of: Callable[[str], float | None]
) -> Paced:
    """As `hasten`, planned anew where the widths take longer than the table says.

    Args:
        ms_of: milliseconds of what `widths_of` names; None where nobody has timed it.
    """
    share = 1.0
    for _ in range(TRIES):
        found = hasten(recipe, target, shape, profile, share)
        ms = ms_of(widths_of(found.recipe))
        if ms is None:
            return found
        most = most_ms(target, table_of(profile).teacher_ms) / SPARE
        found = replace(found, ms=ms)
        if ms <= IN_TIME * most or share * most < found.least_ms:
            return found
        share *= IN_TIME * most / ms
    return found


def widths_of(recipe: Recipe) -> str:
    """Products and units of a resolved recipe, as `core.profile.Profile.timed` calls them."""
    each = next(step.each for step in recipe.steps if step.reads_units)  # type: ignore[attr-defined]
    return json.dumps([recipe.products, each], sort_keys=True)


def table_of(profile: Profile) -> LatencyTable:
    """Raises RecipeInvalid where nobody has timed anything."""
    if profile.latency is None:
        raise RecipeInvalid("milliseconds are asked for and the profile holds no latency table", param="/target")
    return profile.latency


def most_ms(target: Target, teacher_ms: float) -> float:
    """What a plan may spend; infinite where nothing is asked for."""
    ratio = float("inf") if target.latency_ratio is None else teacher_ms / target.latency_ratio
    return SPARE * min(ratio, float("inf") if target.max_latency_ms is None else target.max_latency_ms)


class _Plan:
    """With one kind of products."""

    def __init__(self, recipe: Recipe, target: Target, shape: ModelShape, profile: Profile, products: Products) -> None:
        self.recipe, self.target, self.shape, self.profile = recipe.with_auto(products=products), target, shape, profile
        self.products, self.table = products, table_of(profile)
        self._costs: dict[object, dict[int, float]] = {}
        self.items: dict[str, list[Option[float]]] = {
            units.reader: self._units(units.loss, units.reader) for units in profile.units
        }
        embedding = FAMILIES[shape.family].embedding
        curve = next((curve for curve in profile.curves if curve.name == embedding), None)
        if curve is not None and any(getattr(step, "embedding_bits", None) == "auto" for step in recipe.steps):
            self.items[embedding] = [
                Option(bits, self._cost({embedding}, {embedding: bits}), loss) for bits, loss in curve.dense.items()
            ]

    def paced(self, limit: float) -> Paced:
        left = limit - self.table.base[self.products]
        quick = {name: [Option(one.what, one.ms, one.loss) for one in each] for name, each in self.items.items()}
        chosen = allocate(quick, left)
        if chosen is None:
            return self._made({n: min(each, key=lambda one: (one.ms, one.loss)).what for n, each in self.items.items()})
        found = self._made(_whats(chosen))
        # Bytes, or entries, of what is chosen stand for every size: the most of them at which all sizes are met.
        if not found.too_large:
            return found
        low, high = 0.0, sum(max(one.cost for one in each) for each in self.items.values())
        found = self._made({n: min(each, key=lambda one: one.cost).what for n, each in self.items.items()})
        for _ in range(10):
            middle = (low + high) / 2
            both = allocate_both(self.items, middle, left)
            tried = None if both is None else self._made(_whats(both))
            if tried is None:
                low = middle
            elif tried.too_large:
                high = middle
            else:
                low, found = middle, tried
        return found

    def _units(self, losses: Mapping[int, float], reader: str) -> list[Option[float]]:
        block = block_of(reader)
        if block is None:
            raise RecipeInvalid(f"{reader} reads neither heads nor neurons", param="/recipe")
        names = {reader, *block.writers, *(f"{writer}.bias" for writer in block.writers)}
        shapes = tuple((each.rows, each.cols) for each in self.shape.tensors() if each.name in names)
        alike = self._costs.setdefault(shapes, {})  # layers that look the same cost the same
        for count in losses:
            if count not in alike:
                alike[count] = self._cost(names, {reader: count})
        return [
            Option(count, alike[count], loss, self.table.of(block.what, count, self.products))
            for count, loss in losses.items()
        ]

    def _cost(self, names: set[str], chosen: Chosen) -> float:
        """Bytes of these tensors; entries where no target counts bytes."""
        stored = _resolved(self.recipe, chosen).stored([one for one in self.shape.tensors() if one.name in names])
        if file_limit(self.target, self.shape) is None:
            return sum(tensor.kept for tensor in stored)
        return sum(tensor.size_bytes for tensor in stored)

    def _made(self, chosen: Chosen) -> Paced:
        recipe = _resolved(self.recipe, chosen)
        picked = [next(one for one in self.items[name] if one.what == what) for name, what in chosen.items()]
        rounding = (self.profile.int8 or 0.0) if self.products == "int8" else 0.0
        return Paced(
            recipe=recipe,
            ms=self.table.base[self.products] + sum(one.ms for one in picked),
            loss=sum(one.loss for one in picked) + rounding,
            least_ms=self.table.base[self.products],
            too_large=bool(misses(self.target.sizes(), ratios(size_of(recipe, self.shape), self.shape))),
        )


def _whats(chosen: Mapping[str, Option[float]]) -> dict[str, float]:
    return {name: one.what for name, one in chosen.items()}


def _resolved(recipe: Recipe, chosen: Chosen) -> Recipe:
    """The recipe with what is chosen; embedding bits that are not are 8."""
    units = {name: round(count) for name, count in chosen.items() if block_of(name)}
    bits = next((one for name, one in chosen.items() if name not in units), 8.0)
    return recipe.with_units(units).with_auto(embedding_bits=bits)
