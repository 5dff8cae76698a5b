"""From a profile and a budget of milliseconds to the heads and neurons of every layer, and fp32 or int8 products.

Every block offers each number of units: it takes what the latency table says and loses what its curve says; where bits
are "auto", each number in each width, a matrix of fewer units losing its share of what rounding costs. `core.allocate`
buys units where a millisecond saves most. Where a target names a size, that is a second budget; where it names a
retention and leaves a dial free, loss is the budget and the dial goes as far as it can. Pure Python, some ten
milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from core.allocate import Option, furthest, part_way, priced
from core.errors import RecipeInvalid
from core.family import Block, block_of, family_named
from core.method import LEVELS, Tensor
from core.plan import TENSOR_BYTES, UNPACK_BYTES, ModelShape, file_limit, misses, ratios, size_of
from core.profile import PRODUCTS, Assigned, Products, Profile
from core.recipe import Recipe, Target

SPARE = 0.97  # of the milliseconds: what two timings of one model differ by
IN_TIME, TRIES = 0.99, 3  # a plan whose widths take more of the target's milliseconds is made anew, so many times
FREE, DEAREST = 1e-12, 1e6  # prices of a byte, in units of loss: below the one and above the other nothing changes
STEPS, NEXT = 14, 0.99  # of a search between them; the price beside the one that it ends at


class Choice(NamedTuple):
    """Of a block: units that stay. Of a block or another matrix: bits, where the recipe leaves them open."""

    units: int | None = None
    bits: float | None = None


Chosen = Mapping[str, Choice]  # by reader, or by matrix


@dataclass(frozen=True)
class Planned:
    """A recipe without "auto", and what the profile says of it; None where it says nothing."""

    recipe: Recipe
    loss: float | None = None
    ms: float | None = None
    too_large: bool = False
    least_ms: float = 0.0  # of the fastest
    assigned: tuple[Assigned, ...] = ()  # what a search found, the first being the recipe's


def hasten(
    recipe: Recipe,
    target: Target,
    shape: ModelShape,
    profile: Profile,
    share: float = 1.0,
    most_loss: float | None = None,
) -> Planned:
    """The recipe that loses least of those within the target's milliseconds and sizes; where none is, the fastest.

    Args:
        share: of the milliseconds; below 1 where a plan of all of them took longer than the table says.
        most_loss: where the target leaves a dial free (`Recipe.aim`), the recipe that turns it furthest within this.
    """
    limit = share * most_ms(target, profile)
    kinds = [one for one in PRODUCTS if recipe.products in (one, "auto")]
    plans = [_Plan(recipe, target, shape, profile, one) for one in kinds]
    if most_loss is None:
        found = [plan.paced(limit) for plan in plans]
        return min(found, key=lambda one: (_too_slow(one.ms, limit) and one.ms, one.too_large, one.loss))
    if recipe.aim(target) == "latency_ratio":
        found = [plan.fastest(most_loss) for plan in plans]
        return min(found, key=lambda one: (one.too_large, one.loss > most_loss and one.loss, one.ms))
    (plan,) = plans  # where bits are "auto" products are fp32: a recipe quantises once
    return plan.smallest(limit, most_loss)


def hasten_timed(
    recipe: Recipe,
    target: Target,
    shape: ModelShape,
    profile: Profile,
    ms_of: Callable[[str], float | None],
    most_loss: float | None = None,
) -> Planned:
    """As `hasten`, planned anew where the widths take longer than the table says.

    Args:
        ms_of: milliseconds of what `widths_of` names; None where nobody has timed it.
    """
    share = 1.0
    for _ in range(TRIES):
        found = hasten(recipe, target, shape, profile, share, most_loss)
        if profile.latency is None:
            return replace(found, ms=None)
        ms = ms_of(widths_of(found.recipe))
        if ms is None:
            return found
        most = most_ms(target, profile) / SPARE
        found = replace(found, ms=ms)
        if ms <= IN_TIME * most or share * most < found.least_ms:
            return found
        share *= IN_TIME * most / ms
    return found


def widths_of(recipe: Recipe) -> str:
    """Products and units of a resolved recipe, as `core.profile.Profile.timed` calls them."""
    each = next(step.each for step in recipe.steps if step.reads_units)  # type: ignore[attr-defined]
    return json.dumps([recipe.products, each], sort_keys=True)


def most_ms(target: Target, profile: Profile) -> float:
    """What a plan may spend; infinite where nothing is asked for.

    Raises RecipeInvalid where milliseconds are asked for and nobody has timed anything.
    """
    if not target.times():
        return float("inf")
    if profile.latency is None:
        raise RecipeInvalid("milliseconds are asked for and the profile holds no latency table", param="/target")
    ratio = float("inf") if target.latency_ratio is None else profile.latency.teacher_ms / target.latency_ratio
    return SPARE * min(ratio, float("inf") if target.max_latency_ms is None else target.max_latency_ms)


def _too_slow(ms: float, limit: float) -> bool:
    """Beyond what sums of the same terms in another order differ by."""
    return ms > limit * (1 + 1e-9)


class _Found(Planned):
    """All figures are known."""

    loss: float
    ms: float


class _Plan:
    """With one kind of products."""

    def __init__(self, recipe: Recipe, target: Target, shape: ModelShape, profile: Profile, products: Products) -> None:
        self.recipe, self.target, self.shape, self.profile = recipe.with_auto(products=products), target, shape, profile
        self.products, self.table = products, profile.latency
        self.base = 0.0 if self.table is None else self.table.base[products]
        self.rounding = (profile.int8 or 0.0) if products == "int8" else 0.0
        self.group = int(getattr(recipe.spender, "group", 0))
        self._costs: dict[object, dict[int, float]] = {}
        self.items: dict[str, list[Option[Choice]]] = {
            units.reader: self._units(units.loss, units.every, units.reader) for units in profile.units
        }
        of_blocks = {name for reader in self.items for name in (reader, *_block(reader).writers)}
        embedding = family_named(shape.family, shape.task).embedding
        for curve in profile.curves:
            if recipe.spender is not None and curve.name not in of_blocks:
                self.items[curve.name] = [
                    Option(Choice(bits=bits), coded_bytes(curve.rows, curve.cols, bits, self.group), loss)
                    for bits, loss in curve.dense.items()
                ]
            elif curve.name == embedding and any(getattr(s, "embedding_bits", None) == "auto" for s in recipe.steps):
                self.items[embedding] = [
                    Option(Choice(bits=bits), self._cost({embedding}, {embedding: Choice(bits=bits)}), loss)
                    for bits, loss in curve.dense.items()
                ]

    def paced(self, limit: float) -> _Found:
        """The least loss within so many milliseconds and the target's sizes; the smallest where these are too small."""
        found = self._at(0.0, limit)
        if not found.too_large or _too_slow(found.ms, limit):
            return found
        # Bytes, or entries, of what is chosen stand for every size: they get the least price at which sizes are met.
        cheap = furthest(1 / DEAREST, 1 / FREE, lambda cheap: not self._at(1 / cheap, limit).too_large, STEPS)
        now, other = self._take(1 / cheap, limit), self._take(NEXT / cheap, limit)
        found = self._made(now)
        room = Option(None, self._room(found), float("inf"), limit - found.ms)
        more = self._made(part_way(now, other, room, lambda one: one.loss))
        return found if more.too_large else more

    def smallest(self, limit: float, most_loss: float) -> _Found:
        """The fewest bytes within so many milliseconds and such a loss; the least loss where that is too small."""
        price = furthest(FREE, DEAREST, lambda price: self._loss(self._take(price, limit)) <= most_loss, STEPS)
        now, other = self._take(price, limit), self._take(price / NEXT, limit)
        found = self._made(now)
        room = Option(None, float("inf"), most_loss - found.loss, limit - found.ms)
        return self._made(part_way(now, other, room, lambda one: one.cost))

    def fastest(self, most_loss: float) -> _Found:
        """The fewest milliseconds within such a loss and the target's sizes; the least loss where that is too small."""
        most = self.paced(float("inf")).ms
        slowest = {name: max(one.ms for one in each) for name, each in self.items.items()}
        least = max(self.base, 1e-3 * sum(slowest.values()))

        def good(ratio: float) -> bool:
            if self.target.sizes():
                return self.paced(most / ratio).loss <= most_loss
            return self._loss(self._take(0.0, most / ratio)) <= most_loss

        return self.paced(most / furthest(1.0, max(1.0, most / least), good, steps=8))

    def _at(self, price: float, limit: float) -> _Found:
        return self._made(self._take(price, limit))

    def _take(self, price: float, limit: float) -> dict[str, Option[Choice]]:
        """What is best where a byte has this price; the fastest where that is too slow."""
        found = priced(self.items, price, limit - self.base)
        if found is None:
            found = {name: min(each, key=lambda one: (one.ms, one.loss)) for name, each in self.items.items()}
        return found

    def _loss(self, taken: Mapping[str, Option[Choice]]) -> float:
        return sum(one.loss for one in taken.values()) + self.rounding

    def _room(self, found: _Found) -> float:
        """Bytes, or entries where no target counts bytes, that are left within the target's sizes."""
        size, limit = size_of(found.recipe, self.shape), file_limit(self.target, self.shape)
        if limit is not None:
            return limit - size.file_bytes
        ratio = self.shape.parameters / (self.target.parameter_ratio or 1)
        return min(ratio, self.target.max_nonzero or ratio) - size.nonzero

    def _made(self, found: Mapping[str, Option[Choice]]) -> _Found:
        sizes = self.target.sizes()
        recipe = _resolved(self.recipe, {name: one.what for name, one in found.items()})
        return _Found(
            recipe=recipe,
            loss=self._loss(found),
            ms=self.base + sum(one.ms for one in found.values()),
            least_ms=self.base,
            too_large=bool(sizes and misses(sizes, ratios(size_of(recipe, self.shape), self.shape))),
        )

    def _units(self, losses: Mapping[int, float], every: int, reader: str) -> list[Option[Choice]]:
        block = _block(reader)
        ms = {count: self.table.of(block.what, count, self.products) if self.table else 0.0 for count in losses}
        if self.recipe.spender is not None:
            return self._coded(losses, every, reader, ms)
        names = {reader, *block.writers, *(f"{writer}.bias" for writer in block.writers)}
        shapes = tuple((each.rows, each.cols) for each in self.shape.tensors() if each.name in names)
        alike = self._costs.setdefault(shapes, {})  # layers that look the same cost the same
        for count in losses:
            if count not in alike:
                alike[count] = self._cost(names, {reader: Choice(count)})
        return [Option(Choice(count), alike[count], loss, ms[count]) for count, loss in losses.items()]

    def _coded(
        self, losses: Mapping[int, float], every: int, reader: str, ms: Mapping[int, float]
    ) -> list[Option[Choice]]:
        """Each number of units in each number of bits."""
        curves = {curve.name: curve for curve in self.profile.curves}
        reads, writes = curves[reader], [curves[name] for name in _block(reader).writers]
        rounded = {bits: sum(each.dense[bits] for each in (reads, *writes)) for bits in LEVELS}
        return [
            Option(
                Choice(count, bits),
                coded_bytes(reads.rows, reads.cols * count // every, bits, self.group)
                + sum(coded_bytes(each.rows * count // every, each.cols, bits, self.group) for each in writes),
                loss + rounded[bits] * count / every,
                ms[count],
            )
            for count, loss in losses.items()
            for bits in (LEVELS if count else (min(LEVELS),))
        ]

    def _cost(self, names: set[str], chosen: Chosen) -> float:
        """Bytes of these tensors; entries where no target counts bytes, and nothing where none counts entries."""
        if not self.target.sizes():
            return 0.0
        recipe = _resolved(self.recipe, chosen)
        stored = recipe.stored([one for one in self.shape.tensors() if one.name in names])
        if file_limit(self.target, self.shape) is None:
            return sum(tensor.kept for tensor in stored)
        return sum(tensor.size_bytes for tensor in stored)


@lru_cache(maxsize=65_536)
def coded_bytes(rows: int, cols: int, bits: float, group: int) -> int:
    """What a dense matrix of codes takes in `model.onnx`, with the graph that unpacks it."""
    if not rows * cols:
        return 0
    coded = Tensor("", rows, cols, rows * cols, "linear", levels=LEVELS[bits], group=min(group, cols))
    return coded.size_bytes + UNPACK_BYTES + TENSOR_BYTES


def _block(reader: str) -> Block:
    block = block_of(reader)
    if block is None:
        raise RecipeInvalid(f"{reader} reads neither heads nor neurons", param="/recipe")
    return block


def _resolved(recipe: Recipe, chosen: Chosen) -> Recipe:
    """The recipe with what is chosen; embedding bits that are not are 8."""
    units = {name: one.units for name, one in chosen.items() if one.units is not None}
    bits = {name: one.bits for name, one in chosen.items() if one.bits is not None}
    found = recipe.with_units(units)
    if recipe.spender is None:
        return found.with_auto(embedding_bits=next(iter(bits.values()), 8.0))
    each = bits | {name: bits[reader] for reader in units for name in _block(reader).writers}
    return found.with_bits(each)
