"""What each matrix of a model can spare, as plain numbers: measured once for model and data, stored as JSON.

All losses are in one unit, that of the distillation loss (`core.sensitivity`), so that they add up over matrices.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict

from core.allocate import furthest
from core.cost import Costs

VERSION = 2  # raised by whoever changes the numbers that a profile holds or what is bought by it


class Curve(BaseModel):
    """Of one matrix (rows, cols), alone changed in its model.

    dense: bits -> loss of rounding it as it is.
    cut: rank -> loss of the best factors of that rank; empty for a matrix that is not factorized.
    whole: the same of rank 0.
    factors: bits -> loss of rounding both factors of the full rank; those of a lower one lose their share of it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    rows: int
    cols: int
    kind: Literal["linear", "embedding", "fixed"]
    dense: dict[float, float]
    cut: dict[int, float] = {}
    whole: float = 0.0
    factors: dict[float, float] = {}


class Units(BaseModel):
    """Of one block of heads or neurons, alone changed in its model.

    reader: the linear that reads them. unit: columns of one. loss: units that stay -> loss with the rest refitted.
    """

    model_config = ConfigDict(frozen=True)

    reader: str
    unit: int
    every: int
    loss: dict[int, float]


class Assigned(BaseModel):
    """Which choice of bits each group of rows takes, as one way found it (`core.assign`).

    each: as `mixed_bits` takes it. loss: of the student rounded so, before training, on `select` rows. shares: bits ->
    share of all entries. expected_size: what a search ended at, in units of what was wanted.
    """

    model_config = ConfigDict(frozen=True)

    by: str
    each: dict[str, str]
    loss: float
    shares: dict[str, float]
    expected_size: float | None = None


Products = Literal["fp32", "int8"]
PRODUCTS: tuple[Products, ...] = get_args(Products)


class LatencyTable(BaseModel):
    """Median milliseconds in ONNX Runtime of what a model is made of, on the machine that measured it.

    machine: what it was measured on; elsewhere it says nothing.
    base: of all but the layers' blocks. heads, neurons: of so many in one layer, lines between those that were timed.
    """

    model_config = ConfigDict(frozen=True)

    batch: int
    tokens: int
    threads: int
    machine: str
    teacher_ms: float
    base: dict[Products, float]
    heads: dict[Products, dict[int, float]]
    neurons: dict[Products, dict[int, float]]

    def of(self, what: Literal["heads", "neurons"], units: int, products: Products) -> float:
        """Of one layer's block of so many units."""
        return _between(self.heads[products] if what == "heads" else self.neurons[products], units)


def _between(line: Mapping[int, float], at: int) -> float:
    known = sorted(line)
    if len(known) == 1:
        return line[known[0]]  # of units that all stay: what they take is in the base
    place = min(max(1, bisect_left(known, at)), len(known) - 1)
    low, high = known[place - 1], known[place]
    return line[low] + (line[high] - line[low]) * (at - low) / (high - low)


class Near(BaseModel):
    """Of a student so near its teacher: KL(teacher || student) a row, share of equal answers, retention of the metric
    that is expected, standard deviation of what will be measured."""

    model_config = ConfigDict(frozen=True)

    kl: float
    agreement: float
    retention: float
    sd: float


# What training leaves of the KL that a loss stands for, and a factor within which that holds: fitted on SST-2
# (docs/decisions/0010).
LEARNT, UNSURE = 0.5, 2.0
SURE = 1.64  # standard deviations: 95 % of one side


class Retained(NamedTuple):
    """Expected retention, and what lies below and above it in 5 % of cases each."""

    expected: float
    low: float
    high: float


class Profile(BaseModel):
    """Of one model on one text, as far as a recipe asked for it."""

    model_config = ConfigDict(frozen=True)

    curves: tuple[Curve, ...] = ()
    units: tuple[Units, ...] = ()
    int8: float | None = None  # loss of int8 products in every encoder linear
    latency: LatencyTable | None = None
    timed: dict[str, float] = {}  # widths that were planned -> their milliseconds in units of the teacher's
    kl_per_loss: float | None = None  # KL on `select` text that a unit of loss is, before training
    nears: tuple[Near, ...] = ()  # in falling order of nearness
    costs: Costs | None = None  # where the recipe trains
    assigned: dict[str, tuple[Assigned, ...]] = {}  # by what was asked for (`core.spend.question`), the best first

    def ms_of(self, widths: str) -> float | None:
        """Milliseconds of widths as `core.hasten.widths_of` names them; None where nobody has timed them."""
        share = self.timed.get(widths)
        return None if share is None or self.latency is None else share * self.latency.teacher_ms

    def kl(self, loss: float, *, trained: bool) -> float | None:
        """KL of a student whose recipe loses so much, after training or without any."""
        return None if self.kl_per_loss is None else loss * self.kl_per_loss * (LEARNT if trained else 1.0)

    def retained(self, kl: float) -> Retained | None:
        """Retention at a KL that is known to within the factor `UNSURE`."""
        if not self.nears:
            return None
        worst, (middle, sd), best = (self._near(one) for one in (kl * UNSURE, kl, kl / UNSURE))
        return Retained(middle, worst[0] - SURE * sd, best[0] + SURE * sd)

    def most_kl(self, retention: float) -> float:
        """The largest KL at which a retention can be promised; 0 where none is small enough."""
        if not self.nears:
            return 0.0

        def promised(kl: float) -> bool:
            expected, sd = self._near(kl)
            return expected - spare(retention, sd) >= retention

        return furthest(self.nears[0].kl / 1e3, self.nears[-1].kl, promised, steps=40)

    def most_loss(self, retention: float, *, trained: bool) -> float:
        """The largest loss of a recipe at which a retention can be promised."""
        unit = self.kl(1.0, trained=trained)
        return self.most_kl(retention) / unit if unit else 0.0

    def _near(self, kl: float) -> tuple[float, float]:
        """Retention and standard deviation, linear between those that are known; at no KL nothing is lost."""
        known = (Near(kl=0.0, agreement=1.0, retention=1.0, sd=0.0), *self.nears)
        place = min(max(1, bisect_left([one.kl for one in known], kl)), len(known) - 1)
        one, other = known[place - 1], known[place]
        share = min(1.0, (kl - one.kl) / (other.kl - one.kl))
        return one.retention + share * (other.retention - one.retention), one.sd + share * (other.sd - one.sd)


def spare(retention: float, sd: float) -> float:
    """How far above the retention that is asked for a promise has to be: so far that chance takes it away once in
    twenty, and no more than halfway to the teacher, beyond which nothing could be promised of few rows."""
    return min(SURE * sd, (1 - retention) / 2)
