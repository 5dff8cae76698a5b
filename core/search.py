"""Which loss to try next, so that the smallest or fastest student is found that keeps a retention.

A target of retention that leaves a dial free is met in a few trainings. Each try is planned for a loss; training leaves
a KL, and `select` tells what of the metric that is worth. KL is taken to be in proportion to the loss, and the noise of
`core.promise.Judge.nears` to be off by as much as it was at the last try. Between a try that kept the retention and one
that did not, the next lies inside. Nothing here trains.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.profile import Profile, spare
from core.report import Try

TRIES = 3
REACH = 6.0  # the loss changes by this factor from one try to the next, at most
NEAR = 1.25  # losses closer than this are some 3 % of size or time apart: not worth a training


def best_of(tries: Sequence[Try]) -> int:
    """The place of the try to deliver: of those that keep the retention the one of most loss, else the closest."""
    kept = [place for place, one in enumerate(tries) if one.kept]
    if kept:
        return max(kept, key=lambda place: tries[place].planned_loss or 0.0)
    return max(range(len(tries)), key=lambda place: tries[place].retention)


def next_loss(tries: Sequence[Try], retention: float, profile: Profile) -> float | None:
    """The loss to plan for, after these tries; None where another would gain too little."""
    last = tries[-1]
    if len(tries) >= TRIES or not last.planned_loss or last.kl <= 0:
        return None
    known = profile.retained(last.kl)
    if known is None:
        return None
    apart = last.retention - known.expected
    wanted = last.planned_loss * profile.most_kl(min(retention - apart, 1.0)) / last.kl
    wanted = min(max(wanted, last.planned_loss / REACH), last.planned_loss * REACH)
    low = max((one.planned_loss or 0.0 for one in tries if one.kept), default=0.0)
    high = min((one.planned_loss or 0.0 for one in tries if not one.kept), default=float("inf"))
    if high <= low * NEAR:  # also where more loss was kept than lost, by chance
        return None
    wanted = min(max(wanted, low * NEAR**0.5), high / NEAR**0.5)
    if last.kept and wanted < last.planned_loss * NEAR:
        return None
    return wanted if last.kept or wanted < last.planned_loss / NEAR**0.5 else last.planned_loss / NEAR


def is_kept(expected: float, sd: float, retention: float | None) -> bool:
    """Whether a retention can be promised; where none is asked for, whatever there is."""
    return retention is None or expected - spare(retention, sd) >= retention
