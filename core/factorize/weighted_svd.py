"""Truncated SVD weighted by what a layer sees and by what the task feels: W C^1/2 instead of W.

Plain SVD keeps the directions that are large in W; this keeps those that matter. With C = E[x xᵀ] of the inputs and
G = E[g gᵀ] of the distillation loss' gradients at the output (`core.calibrate`), the factors are those of the SVD of
G^1/2 W C^1/2, carried back: the exact optimum of tr(G D C Dᵀ) at a given rank, whose value is the sum of the dropped
squared singular values. G = I is the whitening of DRONE (Chen et al. 2021, NeurIPS) and SVD-LLM (Wang et al. 2025,
arXiv 2403.07378); both sides is the K-FAC form. The word embedding's C is the frequency of each token. A matrix whose
factors would hold as much as itself stays dense.

`ranks` "uniform" gives every matrix the same share of its entries (LadaBERT's P_svd). "pooled" spends the same total
where it buys most: components of all matrices in one list, value squared singular value, price rows + cols.

Helps always when some hundred texts like the real ones are at hand; needs no labels. On a matrix of low rank it is
exact. Does not help bytes beyond what the rank gives: follow it with `obs` and `distill`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from core.factorize.svd import factored, rank_for, two_factors
from core.method import Keep, Method, Split, Tensor, resolved

if TYPE_CHECKING:
    import torch

    from core.phase import Build, Phase


@dataclass(frozen=True)
class Spectrum:
    """Of one weighted matrix (m, n): weighted singular values (k,), left (m, k) and right (k, n) carried back.

    left[:, :r] @ right[:r] is the best matrix of rank r; its error is the sum of values[r:]².
    """

    values: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor

    def factors(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """left (m, r) and right (r, n) in fp32, the singular values shared between them."""
        root = self.values[:rank].sqrt()
        left, right = self.left[:, :rank] * root, self.right[:rank] * root[:, None]
        return left.float().contiguous(), right.float().contiguous()


def weighted(weight: torch.Tensor, inputs: torch.Tensor, outputs: torch.Tensor) -> Spectrum:
    """Spectrum of G^1/2 W C^1/2.

    Args:
        weight: W (m, n) of y = W x; for an embedding the table (vocabulary, width).
        inputs: C (n, n); for an embedding the share of each token, (vocabulary,), above zero.
        outputs: G (m, m); for an embedding (width, width).
    """
    import torch

    solve = torch.linalg.solve_triangular
    w = weight.double()
    g = _root(outputs)
    if inputs.dim() == 1:  # rows weigh as their tokens are frequent; the long side is diagonal, so its Gram is small
        root = inputs.sqrt()[:, None]
        scaled = root * (w @ g)  # (vocabulary, width)
        energy, basis = torch.linalg.eigh(scaled.T @ scaled)
        values, basis = energy.clamp(min=0).sqrt().flip(0), basis.flip(1)
        safe = torch.where(values > 0, values, torch.ones_like(values))
        return Spectrum(values, (scaled @ basis) / safe / root, solve(g, basis.T, upper=False, left=False))
    c = _root(inputs)
    u, values, vh = torch.linalg.svd(g.T @ w @ c, full_matrices=False)
    return Spectrum(values, solve(g.T, u, upper=True), solve(c, vh, upper=False, left=False))


def _root(moment: torch.Tensor) -> torch.Tensor:
    """L with L Lᵀ = a symmetric positive definite matrix. Any root serves, for a rotation leaves the SVD's error alone;
    the triangular one costs a thirtieth of the symmetric one."""
    import torch

    jitter = 1e-12 * moment.diagonal().max() * torch.eye(len(moment), dtype=moment.dtype)
    root: torch.Tensor = torch.linalg.cholesky(moment + jitter)
    return root


def pooled_ranks(spectra: Mapping[str, Sequence[float]], shapes: Mapping[str, tuple[int, int]],
                 budget: int) -> dict[str, int | None]:  # fmt: skip
    """Ranks of all matrices that together hold at most `budget` entries; None keeps a matrix dense, at no error.

    For a price p of an entry every matrix takes the cheapest of: dense, or each rank r at error(r) + p r (m + n).
    Singular values fall, so that is r = the number of values whose square is above p (m + n). The price is bisected.
    """

    def at(price: float) -> dict[str, int | None]:
        ranks: dict[str, int | None] = {}
        for name, values in spectra.items():
            rows, cols = shapes[name]
            cost = rows + cols
            rank = max(1, sum(value * value > price * cost for value in values))
            left = sum(value * value for value in values[rank:])
            dense = rank * cost >= rows * cols or left + price * rank * cost > price * rows * cols
            ranks[name] = None if dense else rank
        return ranks

    low, high = 0.0, max(values[0] ** 2 for values in spectra.values()) + 1e-300
    for _ in range(100):
        price = (low + high) / 2 if low else high / 16
        if _entries(at(price), shapes) > budget:
            low = price
        else:
            high = price
        if low and high / low < 1 + 1e-9:
            break
    return at(high)


def _entries(ranks: Mapping[str, int | None], shapes: Mapping[str, tuple[int, int]]) -> int:
    return sum(
        rows * cols if ranks[name] is None else (ranks[name] or 0) * (rows + cols)
        for name, (rows, cols) in shapes.items()
    )


class WeightedSvd(Method):
    spends_ranks: ClassVar[bool] = True
    # By sweeps on `select`: where more than a quarter of the entries stays, pruned dense weights beat pruned factors.
    split: ClassVar[Split] = ((0.0, 0.25), (0.03, 0.3), (0.1, 0.4), (0.2, 0.6), (0.3, 1.0), (1.0, 1.0))

    method: Literal["weighted_svd"] = "weighted_svd"
    keep: Keep = Field("auto", description='Fraction of the entries that the factors hold, or "auto".')
    embedding: bool = Field(True, description="Factorize the word embedding too.")
    sides: Literal["inputs", "both"] = Field("both", description="Weigh by inputs only, or by output gradients too.")
    ranks: Literal["uniform", "pooled"] = Field("uniform", description="How the entries are shared among matrices.")
    each: dict[str, Annotated[int, Field(ge=1)]] | None = Field(
        None, description="Ranks of the matrices named here; the others stay dense. In place of `keep` and `ranks`."
    )
    calibration_rows: int = Field(1024, ge=1, le=100_000, description="Training rows that the weights are taken from.")
    damping: float = Field(1e-3, ge=1e-5, le=1, description="Added to C and G, in units of their mean diagonal.")

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """As `svd`; pooled ranks hold the same total at most."""
        if self.each is None:
            return factored(tensors, resolved(self.keep), embedding=self.embedding)
        kinds = ("linear", "embedding") if self.embedding else ("linear",)
        ranks = [self._rank(t.name, t.rows, t.cols) if t.kind in kinds else None for t in tensors]
        both = zip(tensors, ranks, strict=True)
        return [part for tensor, rank in both for part in (two_factors(tensor, rank) if rank else [tensor])]

    def _rank(self, name: str, rows: int, cols: int) -> int | None:
        """None leaves the matrix dense: its factors would hold as much as itself."""
        if self.each is None:
            return rank_for(rows, cols, resolved(self.keep))
        rank = self.each.get(name)
        return rank if rank is not None and rank * (rows + cols) < rows * cols else None

    def compile(self, build: Build) -> Iterable[Phase]:
        from core.surgery import factorize

        names = [name for name in build.compressible() if self.embedding or name != build.family.embedding]
        shapes = {name: (len(build.weight(name)), build.weight(name).shape[1]) for name in names}
        ranks = {name: self._rank(name, *shapes[name]) for name in names}
        if all(rank is None for rank in ranks.values()):
            return ()  # nothing to cut, nothing to calibrate
        found = self.spectra(build)
        if self.ranks == "pooled" and self.each is None:
            spectra = {name: spectrum.values.tolist() for name, spectrum in found.items()}
            ranks = pooled_ranks(spectra, shapes, _entries(ranks, shapes))
        for name, rank in ranks.items():
            if rank is not None:
                factorize(build.model, name, *found[name].factors(rank))
        return ()

    def spectra(self, build: Build) -> dict[str, Spectrum]:
        """Of every matrix that this step may factorize; computed once for all that come with the teacher's weights."""
        import torch

        names = [name for name in build.compressible() if self.embedding or name != build.family.embedding]
        if not all(torch.equal(build.weight(name), build.teacher.get_parameter(f"{name}.weight")) for name in names):
            return self._spectra(build, names)
        key = ("spectra", self.sides, self.calibration_rows, self.damping, tuple(names))
        return build.shared.once(key, lambda: self._spectra(build, names))

    def _spectra(self, build: Build, names: Sequence[str]) -> dict[str, Spectrum]:
        import torch

        from core.calibrate import damped

        moments, found = build.moments(self.calibration_rows), {}
        for name in names:
            inputs, outputs = moments[name].inputs, damped(moments[name].outputs, self.damping)
            if inputs.dim() == 2:
                inputs = damped(inputs, self.damping)
            if self.sides == "inputs":  # one number for the whole matrix, so that pooled ranks still compare
                outputs = outputs.diagonal().mean() * torch.eye(len(outputs), dtype=outputs.dtype)
            found[name] = weighted(build.weight(name).cpu(), inputs, outputs)
        return found
