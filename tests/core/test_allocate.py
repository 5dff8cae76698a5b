"""Spending a budget: within it, never worse with more of it, as good as trying everything where that is possible."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from core.allocate import Option, allocate, allocate_both

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


@given(TWO, st.integers(1, 200), st.integers(0, 100))
def test_both_budgets_are_kept(items: list[list[tuple[int, int, int]]], budget: int, most_ms: int) -> None:
    choice = {str(i): [Option(k, c, loss, ms) for k, (c, loss, ms) in enumerate(item)] for i, item in enumerate(items)}
    found = allocate_both(choice, budget, most_ms)
    if found is not None:
        assert totals(found)[0] <= budget
        assert sum(one.ms for one in found.values()) <= most_ms
        assert all(one in choice[name] for name, one in found.items())
    else:  # then the fewest milliseconds and the lowest cost do not go together
        cheapest = {name: min(each, key=lambda one: one.cost) for name, each in choice.items()}
        fastest = {name: min(each, key=lambda one: (one.ms, one.cost)) for name, each in choice.items()}
        assert totals(cheapest)[0] > budget or sum(one.ms for one in cheapest.values()) > most_ms
        assert totals(fastest)[0] > budget or sum(one.ms for one in fastest.values()) > most_ms


@given(TWO, st.integers(1, 200))
def test_a_second_budget_that_does_not_bind_changes_nothing(
    items: list[list[tuple[int, int, int]]], budget: int
) -> None:
    choice = {str(i): [Option(k, c, loss, ms) for k, (c, loss, ms) in enumerate(item)] for i, item in enumerate(items)}
    assert allocate_both(choice, budget, 1e9) == allocate(choice, budget)
