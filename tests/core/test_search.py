"""The search for a retention: it ends, what it delivers keeps what was asked for, and it goes towards the edge."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.profile import LEARNT, Near, Profile, spare
from core.report import Try
from core.search import NEAR, REACH, TRIES, best_of, is_kept, next_loss

SLOPE = 0.36  # retention lost for each unit of KL


def profile(slope: float = SLOPE, sd: float = 0.002) -> Profile:
    kls = [1e-4 * 1.6**place for place in range(20)]
    nears = (Near(kl=kl, agreement=1 - kl, retention=max(0.0, 1 - slope * kl), sd=sd) for kl in kls)
    return Profile(kl_per_loss=0.05, nears=tuple(nears))


def tried(loss: float, kl: float, retention: float, kept: bool) -> Try:
    return Try(recipe={}, planned_loss=loss, kl=kl, agreement=1 - kl, retention=retention, sd=0.002, kept=kept)


def searched(wanted: float, kl_of: Callable[[float], float], slope: float) -> list[Try]:
    """All tries of a job whose students have such a KL, and lose so much of the metric for it."""
    known, tries = profile(), []
    loss = known.most_loss(wanted, trained=True)
    while loss is not None:
        retention = 1 - slope * kl_of(loss)
        tries.append(tried(loss, kl_of(loss), retention, is_kept(retention, 0.002, wanted)))
        loss = next_loss(tries, wanted, known)
    return tries


@example(0.96875, 0.003, 1.0, 1.0)  # goes as far as one step may
@given(st.floats(0.9, 0.995), st.floats(0.003, 0.2), st.floats(0.1, 1.5), st.floats(0.7, 1.4))
def test_a_search_ends_and_delivers_what_keeps_the_retention_if_anything_did(
    wanted: float, unit: float, slope: float, power: float
) -> None:
    tries = searched(wanted, lambda loss: unit * loss**power, slope)
    assert 1 <= len(tries) <= TRIES
    best = tries[best_of(tries)]
    assert best.kept == any(one.kept for one in tries)
    if best.kept:
        assert best.planned_loss == max(one.planned_loss for one in tries if one.kept)
    else:
        assert best.retention == max(one.retention for one in tries)
    for before, after in pairwise(tries):
        assert after.planned_loss > before.planned_loss if before.kept else after.planned_loss < before.planned_loss
        # As products: a quotient of the two may be rounded to above the factor.
        assert before.planned_loss / REACH <= after.planned_loss <= before.planned_loss * REACH


@given(st.floats(0.95, 0.99), st.floats(0.01, 0.06))
def test_where_the_model_of_it_holds_two_corrections_reach_the_edge(wanted: float, unit: float) -> None:
    """KL in proportion to the loss, at another rate than was forecast."""
    tries = searched(wanted, lambda loss: unit * loss, SLOPE)
    most = profile().most_kl(wanted) / unit
    best = tries[best_of(tries)]
    assert best.kept
    assert best.planned_loss > most / NEAR**2


@given(st.floats(0.9, 0.999), st.floats(0.0, 0.02))
def test_a_promise_is_above_what_is_asked_for_by_what_chance_takes(wanted: float, sd: float) -> None:
    assert 0 <= spare(wanted, sd) <= (1 - wanted) / 2
    assert not is_kept(wanted, max(sd, 1e-6), wanted)
    assert is_kept(1.0, sd, wanted)
    assert is_kept(0.1, sd, None)
    known = profile(sd=sd)
    kl = known.most_kl(wanted)
    expected = known.retained(kl)
    assert expected is not None
    assert is_kept(expected.expected + 1e-6, sd, wanted)
    assert expected.low <= expected.expected <= expected.high


def test_more_retention_allows_less() -> None:
    losses = [profile().most_loss(wanted, trained=True) for wanted in (0.9, 0.95, 0.99, 0.995)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] > 0
    assert profile().most_loss(0.9, trained=False) == pytest.approx(losses[0] * LEARNT)
    assert Profile().most_loss(0.9, trained=True) == 0


def test_losses_that_chance_put_in_the_wrong_order_end_it() -> None:
    assert next_loss([tried(1.0, 0.02, 0.985, False), tried(1.1, 0.02, 0.996, True)], 0.99, profile()) is None
    assert next_loss([tried(0.0, 0.0, 1.0, True)], 0.99, profile()) is None
