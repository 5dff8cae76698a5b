"""Spending a budget: within it, never worse with more of it, as good as trying everything where that is possible."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from core.allocate import Option, allocate, furthest, priced

COSTS = st.integers(1, 50)
ITEMS = st.lists(st.lists(st.tuples(COSTS, st.integers(0, 100)), min_size=1, max_size=5), min_size=1, max_size=4)
Items = list[list[tuple[int, int]]]


def options(items: Items) -> dict[str, list[Option[int]]]:
    return {str(i): [Option(k, c, loss) for k, (c, loss) in enumerate(item)] for i, item in enumerate(items)}


def totals(found: dict[str, Option[int]]) -> tuple[float, float]:
    return sum(one.cost for one in found.values()), sum(one.loss for one in found.values())


@given(ITEMS, st.integers(1, 200))
def test_the_budget_is_kept_and_only_impossible_ones_are_refused(items: Items, budget: int) -> None:
    found = allocate(options(items), budget)
    assert (found is None) == (sum(min(cost for cost, _ in item) for item in items) > budget)
    if found is not None:
        assert totals(found)[0] <= budget
        assert found.keys() == options(items).keys()


@given(ITEMS, st.integers(1, 200))
def test_no_choice_of_the_same_cost_loses_less_when_the_budget_is_met_exactly(items: Items, budget: int) -> None:
    """The best by trying everything is never better by more than the one step that no longer fitted."""
    found = allocate(options(items), budget)
    if found is None:
        return
    every = [(sum(c for c, _ in one), sum(loss for _, loss in one)) for one in product(*items)]
    best = min(loss for cost, loss in every if cost <= budget)
    widest = max((max(loss for _, loss in item) - min(loss for _, loss in item)) for item in items)
    assert best <= totals(found)[1] <= best + widest


@given(ITEMS, st.data())
def test_what_is_found_is_optimal_for_its_own_cost_on_convex_items(items: Items, data: st.DataObject) -> None:
    """Where the budget is a total that the order of purchases passes through, nothing is better."""
    choice = options(items)
    price = data.draw(st.floats(0.01, 10))
    priced = {name: min(each, key=lambda one: one.loss + price * one.cost) for name, each in choice.items()}
    cost, loss = totals(priced)
    found = allocate(choice, cost)
    assert found is not None
    assert totals(found)[1] <= loss + 1e-9


@given(st.lists(st.tuples(COSTS, st.integers(0, 100)), min_size=1, max_size=6), st.integers(1, 60), st.integers(0, 40))
def test_more_budget_never_hurts_one_item(item: list[tuple[int, int]], budget: int, more: int) -> None:
    small, large = (allocate(options([item]), one) for one in (budget, budget + more))
    if small is not None:
        assert large is not None
        assert totals(large)[1] <= totals(small)[1]


TWO = st.lists(
    st.lists(st.tuples(COSTS, st.integers(0, 100), st.integers(0, 30)), min_size=1, max_size=5), min_size=1, max_size=4
)


PRICES = st.floats(0.01, 10)


def doubled(items: list[list[tuple[int, int, int]]]) -> dict[str, list[Option[int]]]:
    return {str(i): [Option(k, c, loss, ms) for k, (c, loss, ms) in enumerate(item)] for i, item in enumerate(items)}


@given(TWO, PRICES, st.integers(0, 100))
def test_the_milliseconds_are_kept_whatever_a_unit_costs(
    items: list[list[tuple[int, int, int]]], price: float, most_ms: int
) -> None:
    choice = doubled(items)
    found = priced(choice, price, most_ms)
    assert (found is None) == (sum(min(ms for _, _, ms in item) for item in items) > most_ms)
    if found is not None:
        assert sum(one.ms for one in found.values()) <= most_ms
        assert all(one in choice[name] for name, one in found.items())


@given(TWO, PRICES, st.floats(1, 100))
def test_without_a_limit_what_is_found_is_the_best_at_its_price(
    items: list[list[tuple[int, int, int]]], price: float, dearer: float
) -> None:
    choice = doubled(items)
    found, other = priced(choice, price, 1e9), priced(choice, price * dearer, 1e9)
    assert found is not None
    assert other is not None
    for name, one in found.items():
        assert one.loss + price * one.cost <= min(each.loss + price * each.cost for each in choice[name]) + 1e-9
    assert totals(other)[0] <= totals(found)[0] + 1e-9  # a higher price never buys more


@given(st.floats(1.5, 900), st.integers(12, 20))
def test_the_edge_is_found(edge: float, steps: int) -> None:
    found = furthest(1.0, 1000.0, lambda at: at <= edge, steps)
    assert edge / 1000 ** (0.5**steps) <= found * (1 + 1e-9)
    assert found <= edge
    assert furthest(1.0, edge, lambda at: at <= edge) == edge
    assert furthest(2.0, 3.0, lambda _: False) == 2.0
