"""The way from all heads or neurons of a layer to none: which goes next, what it costs, how the rest makes up for it.

A unit is a group S of columns of its reader, the linear that sums over the units. With C the covariance of the
reader's inputs and G what the distillation loss feels of its outputs (`core.calibrate`), losing S with the rest
refitted costs tr(G W_S ([C⁻¹]_SS)⁻¹ W_Sᵀ); then W -= W_S ([C⁻¹]_SS)⁻¹ [C⁻¹]_S: and C⁻¹ loses the same way
(Kurtic et al. 2023, arXiv 2302.04089). The means of lost units go into the bias, so that only what varies is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from core.calibrate import damped
from core.family import Block
from core.phase import Build

Score = Literal["obs", "fisher"]
STEPS = 48  # in which all units of a block go, at least


@dataclass(frozen=True)
class Reader:
    """A linear (out, in) that reads units of `unit` columns, and what is known of it. float64, on the CPU."""

    weight: torch.Tensor  # W
    bias: torch.Tensor
    mean: torch.Tensor  # of its inputs, (in,)
    covariance: torch.Tensor  # C, damped
    felt: torch.Tensor  # G, damped
    unit: int

    @property
    def units(self) -> int:
        return self.weight.shape[1] // self.unit

    def refitted(self, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (out, columns) and bias (out,) of least error where only `columns` are left."""
        c, mean = self.covariance, self.mean[columns]
        weight = torch.linalg.solve(c[columns][:, columns], c[columns] @ self.weight.T).T
        return weight.float().contiguous(), (self.bias + self.weight @ self.mean - weight @ mean).float()

    def narrowed(self, columns: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> Reader:
        """The reader of which only `columns` are left, weight (out, columns) and bias (out,) being what they are now.

        To narrow in two steps is then to narrow in one: least squares on fewer columns of what was fitted to more.
        """
        return replace(
            self,
            weight=weight.double().cpu(),
            bias=bias.double().cpu(),
            mean=self.mean[columns],
            covariance=self.covariance[columns][:, columns],
        )

    def error(self, columns: torch.Tensor, weight: torch.Tensor) -> float:
        """tr(G D C Dᵀ) of a weight (out, columns) in the place of all, its bias being the best one."""
        difference = self.weight.clone()
        difference[:, columns] -= weight.double()
        return float(((self.felt @ difference) * (difference @ self.covariance)).sum())


def reader(build: Build, name: str, calibration_rows: int, damping: float) -> Reader:
    """The teacher's reader called `name`, with all units."""
    module = build.teacher.get_submodule(name)
    moments = build.shared.moments(calibration_rows)[name]
    weight = module.get_parameter("weight").detach().double().cpu()
    bias = torch.zeros(len(weight)) if module.bias is None else module.get_parameter("bias").detach()
    # Without a bias nothing takes the means of lost units: least squares then goes through the origin.
    mean = torch.zeros(weight.shape[1]).double() if moments.mean is None or module.bias is None else moments.mean
    covariance = damped(moments.inputs - torch.outer(mean, mean), damping)
    felt = damped(moments.outputs, damping)
    return Reader(weight, bias.double().cpu(), mean, covariance, felt, unit_of(build, build.family.block(name)))


def unit_of(build: Build, block: Block | None) -> int:
    """Columns that a unit of the block's reader spans."""
    if block is None or block.what == "neurons":
        return 1
    config = build.model.config
    return int(getattr(config, build.family.hidden)) // int(getattr(config, build.family.heads))


@dataclass(frozen=True)
class Removal:
    """From all units to none. order: the first to go first; errors[k]: the reader's with k gone, k = 0..units."""

    order: tuple[int, ...]
    errors: tuple[float, ...]


def removal(of: Reader, score: Score) -> Removal:
    """The order in which the units go and the error after each.

    Args:
        score: "obs" prices a unit with the rest refitted, anew after each step; "fisher" once, as it is felt when it
            goes alone and nothing moves. Errors are those with the rest refitted either way.
    """
    w, inverse = of.weight.clone(), torch.linalg.inv(of.covariance)
    left = torch.arange(of.units)
    alone = _alone(of) if score == "fisher" else None
    order: list[int] = []
    errors = [0.0]
    while len(left):
        prices = _refitted(w, inverse, of) if alone is None else alone[left]
        gone = prices.argsort(stable=True)[: max(1, of.units // STEPS)]
        stays = torch.ones(len(left), dtype=torch.bool)
        stays[gone] = False
        out, kept = columns_of(gone, of.unit), columns_of(stays.nonzero()[:, 0], of.unit)
        across = torch.cat([w[:, out].T, inverse[out][:, kept]], dim=1)
        by_weight, by_rest = torch.linalg.solve(inverse[out][:, out], across).split([len(w), len(kept)], dim=1)
        added = max(float((w[:, out].T * (by_weight @ of.felt)).sum()), 0.0)
        # The step's total is exact; within it, units share it by their prices.
        shares = prices[gone].clamp(min=1e-300).cumsum(0)
        errors += [errors[-1] + added * float(share / shares[-1]) for share in shares]
        w = w[:, kept] - w[:, out] @ by_rest
        inverse = inverse[kept][:, kept] - inverse[kept][:, out] @ by_rest
        order += left[gone].tolist()
        left = left[stays]
    return Removal(tuple(order), tuple(errors))


def _refitted(w: torch.Tensor, inverse: torch.Tensor, of: Reader) -> torch.Tensor:
    """What each unit costs when it goes and the rest is refitted, (units,)."""
    if of.unit == 1:
        return (w * (of.felt @ w)).sum(dim=0) / inverse.diagonal()
    ours = _by_unit(w, of.unit)
    solved: torch.Tensor = torch.linalg.solve(_blocks(inverse, of.unit), ours)
    return (solved * (ours @ of.felt)).sum(dim=(1, 2))


def _alone(of: Reader) -> torch.Tensor:
    """What each unit costs when it goes and nothing moves, (units,)."""
    ours = _by_unit(of.weight, of.unit)
    return ((_blocks(of.covariance, of.unit) @ ours) * (ours @ of.felt)).sum(dim=(1, 2))


def _by_unit(w: torch.Tensor, unit: int) -> torch.Tensor:
    """(out, in) as (units, unit, out)."""
    return w.T.reshape(-1, unit, len(w))


def _blocks(square: torch.Tensor, unit: int) -> torch.Tensor:
    """The blocks on the diagonal, (units, unit, unit)."""
    units = len(square) // unit
    place = torch.arange(units)
    return square.reshape(units, unit, units, unit)[place, :, place]


def columns_of(units: torch.Tensor, unit: int) -> torch.Tensor:
    """The columns that units span."""
    return (units[:, None] * unit + torch.arange(unit)).flatten()
