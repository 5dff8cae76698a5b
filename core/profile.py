"""What each matrix of a model can spare, as plain numbers: measured once for model and data, stored as JSON.

All losses are in one unit, that of the distillation loss (`core.sensitivity`), so that they add up over matrices.
"""

from __future__ import annotations

from typing import Literal

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


class Profile(BaseModel):
    """Of one model on one text."""

    model_config = ConfigDict(frozen=True)

    curves: tuple[Curve, ...]
