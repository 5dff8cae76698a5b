"""Second-order pruning of every compressible parameter: scores, thresholds, the repairing sweep.

All arithmetic is float64 on the CPU; parameters stay where and what they are. A parameter P (rows, cols) is judged by
H (cols, cols), the second moment of what its columns multiply, and a weight per row: the loss of an error D is
sum_i weight_i D_i H D_iᵀ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from core.calibrate import Moments, damped
from core.grid import Grid
from core.masking import largest, put
from core.phase import Build
from core.prune.magnitude import kept_entries

BLOCK = 64  # columns of a sweep whose effect on later columns is applied together


@dataclass(frozen=True)
class Judged:
    """A parameter with its metric: weight (rows, cols), hessian (cols, cols), rows (rows,)."""

    weight: torch.Tensor
    hessian: torch.Tensor
    rows: torch.Tensor

    def error(self, other: torch.Tensor) -> float:
        """Loss of putting `other` in the weight's place: sum_i rows_i (D H Dᵀ)_ii with D = other - weight."""
        d = other - self.weight
        return float((self.rows * ((d @ self.hessian) * d).sum(dim=1)).sum())

    def scores(self, upper: torch.Tensor) -> torch.Tensor:
        """Loss of removing each entry, the rest of its row repaired: w² / [H⁻¹]_jj x row weight (OBS).

        Args:
            upper: `inverse_root` of the Hessian.
        """
        inverse = upper.square().sum(dim=0)  # the diagonal of Uᵀ U
        return self.weight.square() / inverse * self.rows[:, None]


def inverse_root(hessian: torch.Tensor) -> torch.Tensor:
    """U with Uᵀ U = H⁻¹, upper triangular."""
    root: torch.Tensor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
    return root


def sweep(weight: torch.Tensor, upper: torch.Tensor, mask: torch.Tensor, grid: Grid | None = None) -> torch.Tensor:
    """`weight` without the entries outside `mask`, the others rounded to `grid`, column by column; what is left of each
    row is moved to make up.

    The columns to the right of a removed entry move by the OBS formula with the inverse of the Hessian of those
    columns, which the Cholesky factor of H⁻¹ holds (SparseGPT, algorithm 1 with a given mask).

    Args:
        upper: `inverse_root` of the Hessian.
    """
    w, columns = weight.clone(), weight.shape[1]
    for start in range(0, columns, BLOCK):
        stop = min(columns, start + BLOCK)
        errors = torch.zeros_like(w[:, start:stop])
        for j in range(start, stop):
            kept = w[:, j] if grid is None else grid.column(w[:, j], j).double()
            kept = torch.where(mask[:, j], kept, 0.0)
            error = (w[:, j] - kept) / upper[j, j]
            w[:, j + 1 : stop] -= error[:, None] * upper[j, j + 1 : stop]
            w[:, j], errors[:, j - start] = kept, error
        w[:, stop:] -= errors @ upper[start:stop, stop:]
    return w * mask


def refit(judged: Judged, mask: torch.Tensor) -> torch.Tensor:
    """The best weight with support `mask`: least squares row by row. Never worse than any weight of that support."""
    result = torch.zeros_like(judged.weight)
    target = judged.weight @ judged.hessian  # (rows, cols)
    for i in range(len(mask)):
        here = mask[i].nonzero()[:, 0]
        if len(here):
            result[i, here] = torch.linalg.solve(judged.hessian[here][:, here], target[i, here])
    return result


class Surgeon:
    """Judges the prunable parameters of a build as they are now.

    Args:
        scope: "model" is one threshold for all parameters, "tensor" one density for each.
    """

    def __init__(self, build: Build, moments: Mapping[str, Moments], damping: float, *, scope: str) -> None:
        self.build, self.scope, self.damping = build, scope, damping
        self._moments = {
            name: Moments(
                each.inputs if each.inputs.dim() == 1 else damped(each.inputs, damping), damped(each.outputs, damping)
            )
            for name, each in moments.items()
        }
        self._roots: dict[str, torch.Tensor] = {}

    def judged(self) -> dict[str, Judged]:
        """Every prunable parameter with its metric."""
        names = list(self.build.compressible())
        return {f"{name}.{part}": judged for name in names for part, judged in self.judged_in(name).items()}

    def judged_in(self, name: str) -> dict[str, Judged]:
        """The parameters of one module with their metrics; left comes last, for right lets through what it sees."""
        module = self.build.model.get_submodule(name)
        parts = {part: p.detach().double().cpu() for part, p in module.named_parameters(recurse=False) if p.dim() == 2}
        return self._parts(parts, self._moments[name])

    def judged_factors(self, name: str, left: torch.Tensor, right: torch.Tensor) -> dict[str, Judged]:
        """What `judged_in` would give for two factors in the place of a module's weight."""
        return self._parts({"left": left.double().cpu(), "right": right.double().cpu()}, self._moments[name])

    def _parts(self, parts: dict[str, torch.Tensor], moments: Moments) -> dict[str, Judged]:
        c, g = moments.inputs, moments.outputs
        table = c.dim() == 1  # an embedding is transposed: rows are tokens, columns are felt
        whole, rows = (g, c) if table else (c, g.diagonal())  # the metric of a matrix that is not two factors
        found = {part: Judged(w, whole, rows) for part, w in parts.items() if part in ("weight", "sparse")}
        if "left" in parts:
            left, right = parts["left"], parts["right"]
            felt = (c[:, None] * left.square() if table else left * (g @ left)).sum(dim=0)
            found["right"] = Judged(right, whole, felt)
            found["left"] = Judged(left, damped(right @ whole @ right.T, self.damping), rows)
        return found

    @torch.no_grad()
    def prune(self, share: float) -> None:
        """Leave `share` of all entries, repaired; per matrix magnitude's solution where that errs less."""
        judged = self.judged()
        roots = {name: self._root(name, each) for name, each in judged.items()}
        masks = self._masks(judged, roots, share)
        for name, each in judged.items():
            swept = sweep(each.weight, roots[name], masks[name])
            plain = largest(each.weight.abs(), self._held(name, each), int(masks[name].sum()))
            if each.error(each.weight * plain) < each.error(swept):
                masks[name], swept = plain, each.weight * plain
            parameter = self.build.model.get_parameter(name)
            parameter.copy_(swept.to(parameter))
            put(self.build, name, masks[name])

    def _masks(
        self, judged: Mapping[str, Judged], roots: Mapping[str, torch.Tensor], share: float
    ) -> dict[str, torch.Tensor]:
        """Masks that hold `share` of all entries by the score w² / [H⁻¹]_jj x row weight, each within the one held."""
        held = {name: self._held(name, each) for name, each in judged.items()}
        scores = {}
        for name, each in judged.items():
            scores[name] = torch.where(held[name], each.scores(roots[name]), -1.0).float()
        counts = {name: kept_entries(score.numel(), share) for name, score in scores.items()}
        if self.scope == "model":
            counts = _pooled(scores, sum(counts.values()))
        return {name: largest(score, held[name], counts[name]) for name, score in scores.items()}

    def _held(self, name: str, judged: Judged) -> torch.Tensor:
        mask = self.build.masks.get(name)
        return torch.ones_like(judged.weight, dtype=torch.bool) if mask is None else mask.cpu()

    def _root(self, name: str, judged: Judged) -> torch.Tensor:
        """`inverse_root` of H. Only a left factor's H changes, as its neighbour does; others are kept."""
        found = self._roots.get(name)
        if found is None:
            found = inverse_root(judged.hessian)
            if not name.endswith(".left"):
                self._roots[name] = found
        return found


def _pooled(scores: Mapping[str, torch.Tensor], count: int) -> dict[str, int]:
    """How many of the `count` best entries of all tensors lie in each; at least one in every tensor."""
    flat = np.concatenate([score.flatten().numpy() for score in scores.values()])
    threshold = np.partition(flat, len(flat) - count)[len(flat) - count]
    found = {name: int((score > threshold).sum()) for name, score in scores.items()}
    spare = count - sum(found.values())
    for name, score in scores.items():  # entries that tie at the threshold
        ties = min(spare, int((score == threshold).sum()))
        found[name], spare = found[name] + ties, spare - ties
    for name in [name for name, kept in found.items() if not kept]:
        found[name] = 1
        found[max(found, key=lambda other: found[other])] -= 1
    return found
