"""Which choice every group of rows takes: found by the ways that `mixed_bits` names, the better one is kept.

Both ways end in the same purchase (`core.allocate`): choices of the least loss, or of the largest logits, within the
bytes. Each is then rounded as it will be trained, and judged by the distillation loss on `select` rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from core.allocate import Option, allocate
from core.bit_search import searched
from core.errors import TargetImpossible
from core.mixing import code_bytes, each_of, options
from core.phase import Build
from core.plan import ModelShape, file_limit, size_of
from core.probe import Loss, Prober
from core.profile import Assigned
from core.quantize.binary_split import BinarySplit
from core.quantize.mixed_bits import MixedBits
from core.recipe import Recipe, Target
from core.rounding import settle
from core.searching import Way
from core.shared import Shared

Choices = Mapping[str, Option[int]]  # by "module/group"
HALVINGS = 14
Items = Mapping[str, Sequence[Option[int]]]


def assign(recipe: Recipe, target: Target, shape: ModelShape, shared: Shared) -> tuple[Assigned, ...]:
    """What each way found, the one of the least loss first.

    Raises:
        TargetImpossible: the bytes do not even hold what stands beside the groups.
    """
    search = _Search(recipe, shape, shared, file_limit(target, shape))
    return tuple(sorted(search.found(), key=lambda one: one.loss))


class _Search:
    """Of one point."""

    def __init__(self, recipe: Recipe, shape: ModelShape, shared: Shared, limit: int | None) -> None:
        step = recipe.searcher
        if not isinstance(step, MixedBits | BinarySplit):
            raise TypeError("no step of this recipe searches")
        self.recipe, self.step, self.shape, self.shared = recipe, step, shape, shared
        self.mean = step.bits if isinstance(step, MixedBits) and step.bits != "auto" else None
        self.limit = limit if self.mean is None else None  # bytes of the file
        before = recipe.model_copy(update={"steps": recipe.steps[: recipe.steps.index(step)]})
        self.before = before.steps
        self.matrices = {one.name: one for one in before.stored(shape.tensors()) if one.kind != "fixed"}
        self.scales = self.mean is None  # what `bits` counts are codes alone

    def found(self) -> list[Assigned]:
        items = self._options()
        budget = self._budget(items)
        return [self._by(way, items, budget) for way in self.step.ways]

    def _by(self, way: Way, items: Items, budget: float) -> Assigned:
        """What one way finds."""
        step, bought, expected = self.step, items, None
        if way == "gumbel" and isinstance(step, MixedBits):
            logits, expected = searched(self._student(), step, budget, scales=self.scales)
            bought = {
                name: [Option(one.what, one.cost, -logits[name][one.what]) for one in each]
                for name, each in items.items()
            }
        chosen = self._within(bought, budget)
        each = each_of(chosen)
        lost = sum(items[name][one.what].loss for name, one in chosen.items())
        if isinstance(step, MixedBits):  # what it adds up to is known better than by adding
            build = self._student()
            list(step.model_copy(update={"each": each}).compile(build))
            settle(build)
            lost = self._on_select.of(build.model.eval())
        return Assigned(by=way, each=each, loss=lost, shares=self._shares(each), expected_size=expected)

    @cached_property
    def _on_select(self) -> Loss:
        """The teacher answers these rows once for all ways."""
        return Loss(self.shared, self.shared.select)

    def _student(self) -> Build:
        """As it is when the step comes, but for trainings."""
        build = self.shared.student()
        for earlier in self.before:
            if not earlier.trains:
                list(earlier.compile(build))
        return build

    def _options(self) -> dict[str, list[Option[int]]]:
        build, loss = self._student(), Loss(self.shared)
        model = build.model.eval().requires_grad_(False)
        return options(build, self.step, Prober(model, loss, loss.of(model)), scales=self.scales)

    def _budget(self, items: Items) -> float:
        """Bytes that all groups may take together."""
        step = self.step
        if self.mean is not None:
            return sum(one.entries for one in self.matrices.values()) * self.mean / 8
        least = next(place for place, bits in enumerate(step.choices) if bits)
        uniform = {name: str(least) * len(step.rows_of(one.rows)) for name, one in self.matrices.items()}
        codes = sum(code_bytes(step, least, one.rows, one.cols, scales=True) for one in self.matrices.values())
        beside = self._file_bytes(uniform) - codes
        if (self.limit or 0) - beside < sum(min(one.cost for one in each) for each in items.values()):
            raise TargetImpossible(
                f"{self.limit} bytes cannot be reached by this recipe: {beside:.0f} stand beside what it chooses "
                "bits for",
                param="/target",
            )
        return (self.limit or 0) - beside

    def _file_bytes(self, each: Mapping[str, str]) -> int:
        return size_of(self.recipe.with_assigned(each), self.shape).file_bytes

    def _within(self, items: Items, budget: float) -> Choices:
        """The best choices of which the file is no larger than the limit."""
        if (found := self._bought(items, budget)) is not None:
            return found
        low, high = sum(min(one.cost for one in each) for each in items.values()), budget
        if (chosen := self._bought(items, low)) is None:
            raise TargetImpossible("the bytes of the target hold none of the choices", param="/target")
        for _ in range(HALVINGS):  # what stands beside the choices depends on them
            middle = (low + high) / 2
            found = self._bought(items, middle)
            low, high, chosen = (low, middle, chosen) if found is None else (middle, high, found)
        return chosen

    def _bought(self, items: Items, budget: float) -> Choices | None:
        """What so many bytes of choices buy; None where the file is then too large."""
        chosen = allocate(items, budget)
        if chosen is None or (self.limit is not None and self._file_bytes(each_of(chosen)) > self.limit):
            return None
        return chosen

    def _shares(self, each: Mapping[str, str]) -> dict[str, float]:
        """Of all entries the share that each choice has."""
        step = self.step
        taken = dict.fromkeys(step.choices, 0)
        for name, letters in each.items():
            for letter, rows in zip(letters, step.rows_of(self.matrices[name].rows), strict=True):
                taken[step.choices[int(letter)]] += rows * self.matrices[name].cols
        total = sum(taken.values())
        return {f"{bits:g}": entries / total for bits, entries in taken.items()}
