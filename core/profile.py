"""What each matrix of a model can spare, as plain numbers: measured once for model and data, stored as JSON.

All losses are in one unit, that of the distillation loss (`core.sensitivity`), so that they add up over matrices.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

VERSION = 1  # raised by whoever changes the numbers that a profile holds or what is bought by it


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
    place = min(max(1, bisect_left(known, at)), len(known) - 1)
    low, high = known[place - 1], known[place]
    return line[low] + (line[high] - line[low]) * (at - low) / (high - low)


class Profile(BaseModel):
    """Of one model on one text, as far as a recipe asked for it."""

    model_config = ConfigDict(frozen=True)

    curves: tuple[Curve, ...] = ()
    units: tuple[Units, ...] = ()
    int8: float | None = None  # loss of int8 products in every encoder linear
    latency: LatencyTable | None = None
    timed: dict[str, float] = {}  # widths that were planned -> their milliseconds in units of the teacher's

    def ms_of(self, widths: str) -> float | None:
        """Milliseconds of widths as `core.hasten.widths_of` names them; None where nobody has timed them."""
        share = self.timed.get(widths)
        return None if share is None or self.latency is None else share * self.latency.teacher_ms
