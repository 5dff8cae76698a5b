"""One budget or two, many places to spend them: an option for each item, together within budget and of little loss.

Every item has options of a cost and a loss. Options that no price of a unit of cost makes the best are left out (the
lower convex hull); the others are bought in the order of what a unit of cost saves, which is the solution of Everett
(1963, generalized Lagrange multipliers) for every total that it passes. What is left when the next purchase is too dear
is spent on those that still fit. Of two budgets the second has a price, at which it is paid for with loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, TypeVar

What = TypeVar("What")
TINY = 1e-30


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


def priced(items: Mapping[str, Sequence[Option[What]]], price: float, most_ms: float) -> dict[str, Option[What]] | None:
    """Options of the least loss + `price` x cost, together of `ms` at most `most_ms`; None where none are."""
    bought = {}
    for name, options in items.items():
        best: dict[float, tuple[float, Option[What]]] = {}  # of the options that take as long
        for one in options:
            worth = one.loss + price * one.cost
            if one.ms not in best or worth < best[one.ms][0]:
                best[one.ms] = worth, one
        bought[name] = [Option(one, ms, worth) for ms, (worth, one) in best.items()]
    found = allocate(bought, most_ms)
    return None if found is None else {name: one.what for name, one in found.items()}


def part_way(
    now: Mapping[str, Option[What]],
    other: Mapping[str, Option[What]],
    room: Option[Any],
    by: Callable[[Option[What]], float],
) -> dict[str, Option[What]]:
    """Items go over from one choice to the other, those first that gain most of `by` for what they take of `room`.

    Between two prices next to each other items that look alike change together; this lets some of them.
    """
    left_cost, left_loss, left_ms = room.cost, room.loss, room.ms

    def gain(name: str) -> float:
        taken = max(other[name].cost - now[name].cost, 0) / max(room.cost, TINY)
        taken += max(other[name].loss - now[name].loss, 0) / max(room.loss, TINY)
        return (by(now[name]) - by(other[name])) / max(taken, TINY)

    found = dict(now)
    for name in sorted(now, key=gain, reverse=True):
        cost, loss, ms = (getattr(other[name], field) - getattr(now[name], field) for field in ("cost", "loss", "ms"))
        if by(now[name]) > by(other[name]) and cost <= left_cost and loss <= left_loss and ms <= left_ms:
            found[name] = other[name]
            left_cost, left_loss, left_ms = left_cost - cost, left_loss - loss, left_ms - ms
    return found


def furthest(low: float, high: float, good: Callable[[float], bool], steps: int = 12) -> float:
    """About the largest number of `low` to `high` that is good, where all below a good one are; `low` if none is."""
    if good(high):
        return high
    for _ in range(steps):
        middle = (low * high) ** 0.5
        if good(middle):
            low = middle
        else:
            high = middle
    return low


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
