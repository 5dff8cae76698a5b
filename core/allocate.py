"""One budget or two, many places to spend them: an option for each item, together within budget and of little loss.

Every item has options of a cost and a loss. Options that no price of a unit of cost makes the best are left out (the
lower convex hull); the others are bought in the order of what a unit of cost saves, which is the solution of Everett
(1963, generalized Lagrange multipliers) for every total that it passes. What is left when the next purchase is too dear
is spent on those that still fit. Of two budgets the second has a price, at which it is paid for with loss; that price
is bisected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

STEP = 16.0  # between two prices, while one that is high enough is looked for
What = TypeVar("What")


@dataclass(frozen=True)
class Option(Generic[What]):
    """One way to have an item: `cost` and `ms` of the two budgets, `loss` in units that are the same for all items."""

    what: What
    cost: float
    loss: float
    ms: float = 0.0


def allocate(items: Mapping[str, Sequence[Option[What]]], budget: float) -> dict[str, Option[What]] | None:
    """An option for every item, together of cost at most `budget`; None where even the cheapest cost more."""
    hulls = {name: _hull(options) for name, options in items.items()}
    if sum(hull[0].cost for hull in hulls.values()) > budget:
        return None
    # On the hull every step to the next option saves less loss a unit of cost than the one before it.
    steps = sorted(
        ((before.loss - after.loss) / (after.cost - before.cost), name, place)
        for name, hull in hulls.items()
        for place, (before, after) in enumerate(pairwise(hull))
    )
    places = dict.fromkeys(hulls, 0)
    left = budget - sum(hull[0].cost for hull in hulls.values())
    closed: set[str] = set()
    for _, name, place in reversed(steps):
        extra = hulls[name][place + 1].cost - hulls[name][place].cost
        if name in closed or extra > left:
            closed.add(name)  # the options above are dearer still
            continue
        places[name], left = place + 1, left - extra
    return {name: hulls[name][place] for name, place in places.items()}


def allocate_both(
    items: Mapping[str, Sequence[Option[What]]], budget: float, most_ms: float
) -> dict[str, Option[What]] | None:
    """As `allocate`, and together of `ms` at most `most_ms`; None where no price of a millisecond brings that about."""

    def at(price: float) -> dict[str, Option[What]] | None:
        priced = {
            name: [Option(one, one.cost, one.loss + price * one.ms) for one in options]
            for name, options in items.items()
        }
        found = allocate(priced, budget)
        return None if found is None else {name: one.what for name, one in found.items()}

    def fits(found: Mapping[str, Option[What]]) -> bool:
        return sum(one.ms for one in found.values()) <= most_ms

    found = at(0.0)
    if found is None or fits(found):
        return found
    price = STEP**-8
    while (found := at(price)) is not None and not fits(found):
        price *= STEP
        if price > STEP**16:
            return None
    low, high = price / STEP, price
    for _ in range(12):  # to a thousandth of the price
        middle = (low * high) ** 0.5
        if (tried := at(middle)) is not None and fits(tried):
            high, found = middle, tried
        else:
            low = middle
    return found


def _hull(options: Sequence[Option[What]]) -> list[Option[What]]:
    """The lower convex hull of the options, cheapest first: those that some price makes the best."""
    hull: list[Option[What]] = []
    for option in sorted(options, key=lambda one: (one.cost, one.loss)):
        if hull and option.loss >= hull[-1].loss:
            continue
        while len(hull) > 1 and _saved(hull[-1], option) >= _saved(hull[-2], hull[-1]):
            hull.pop()
        hull.append(option)
    return hull


def _saved(before: Option[What], after: Option[What]) -> float:
    """Loss saved by a unit of cost."""
    return (before.loss - after.loss) / (after.cost - before.cost)
