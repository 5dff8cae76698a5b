"""From a profile and a budget of milliseconds to the heads and neurons of every layer, and fp32 or int8 products.

Every block offers each number of units: it takes what the latency table says and loses what its curve says.
`core.allocate` buys units where a millisecond saves most, with sizes as a second budget where a target names one. Pure
Python, some milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.allocate import Option, allocate, allocate_both
from core.errors import RecipeInvalid
from core.family import Block, block_of
from core.method import Method, Tensor
from core.plan import ModelShape, misses, ratios, size_of
from core.profile import PRODUCTS, LatencyTable, Products, Profile, Units
from core.recipe import SIZES, Recipe, Target

SPARE = 0.97  # of the milliseconds: what two timings of one model differ by


@dataclass(frozen=True)
class Paced:
    """A recipe without "auto", and what the profile says of it."""

    recipe: Recipe
    ms: float
    loss: float


def hasten(recipe: Recipe, target: Target, shape: ModelShape, profile: Profile) -> Paced:
    """The recipe that loses least of those within the target's milliseconds and sizes; the fastest where none is."""
    table = profile.latency
    if table is None:
        raise RecipeInvalid("milliseconds are asked for and the profile holds no latency table", param="/target")
    limit = SPARE * min(table.teacher_ms / (target.latency_ratio or 1e-9), target.max_latency_ms or float("inf"))
    found = [_paced(recipe, target, shape, profile, table, limit, products) for products in _products(recipe)]
    within = [one for one in found if one.ms <= limit]
    return min(within, key=lambda one: one.loss) if within else min(found, key=lambda one: one.ms)


def _products(recipe: Recipe) -> list[Products]:
    asked = next((step.products for step in recipe.steps if hasattr(step, "products")), "fp32")
    return [one for one in PRODUCTS if asked in (one, "auto")]


def _paced(
    recipe: Recipe,
    target: Target,
    shape: ModelShape,
    profile: Profile,
    table: LatencyTable,
    limit: float,
    products: Products,
) -> Paced:
    chosen = recipe.with_products(products)
    left = limit - table.base[products]
    items = {units.reader: list(_options(chosen, shape, units, table, products)) for units in profile.units}
    plain = allocate({name: [Option(o.what, o.ms, o.loss) for o in options] for name, options in items.items()}, left)
    counts = {name: one.what for name, one in plain.items()} if plain else dict.fromkeys(items, 0)
    made = _resolved(chosen, counts)
    if plain and _too_large(made, target, shape):
        # Bytes of the blocks stand for every size: the most of them at which all sizes are met.
        low, high = 0.0, sum(max(one.cost for one in options) for options in items.values())
        for _ in range(12):
            middle = (low + high) / 2
            both = allocate_both(items, middle, left)
            if both is None:
                low = middle
                continue
            tried = {name: one.what for name, one in both.items()}
            if _too_large(_resolved(chosen, tried), target, shape):
                high = middle
            else:
                low, counts = middle, tried
        made = _resolved(chosen, counts)
    picked = [next(one for one in items[name] if one.what == count) for name, count in counts.items()]
    loss = sum(one.loss for one in picked) + ((profile.int8 or 0.0) if products == "int8" else 0.0)
    return Paced(made, table.base[products] + sum(one.ms for one in picked), loss)


def _too_large(recipe: Recipe, target: Target, shape: ModelShape) -> bool:
    sizes = {name: value for name, value in target.given().items() if name in SIZES}
    return bool(misses(sizes, ratios(size_of(recipe, shape), shape)))


def _options(
    recipe: Recipe, shape: ModelShape, units: Units, table: LatencyTable, products: Products
) -> Iterator[Option[int]]:
    block = block_of(units.reader)
    if block is None:
        raise RecipeInvalid(f"{units.reader} reads neither heads nor neurons", param="/recipe")
    tensors = _tensors(shape, block)
    for count, loss in units.loss.items():
        stored = tensors
        for step in _resolved(recipe, {units.reader: count}).steps:
            stored = step.stored(stored)
        size = sum(tensor.size_bytes for tensor in stored)
        yield Option(count, size, loss, table.of(block.what, count, products))


def _tensors(shape: ModelShape, block: Block) -> list[Tensor]:
    names = {block.reader, *block.writers, *(f"{writer}.bias" for writer in block.writers)}
    return [tensor for tensor in shape.tensors() if tensor.name in names]


def _resolved(recipe: Recipe, counts: dict[str, int]) -> Recipe:
    def filled(step: Method) -> Method:
        return step.model_copy(update={"keep": 1.0, "each": counts}) if step.reads_units else step

    return recipe.model_copy(update={"steps": tuple(map(filled, recipe.steps))})
