"""Low rank *plus* sparse: W becomes left right + S, the few entries that no low rank explains kept one by one.

A product of pruned factors (`weighted_svd` then `obs`) must say everything through the rank; a sum lets S carry what
sticks out (LoSparse, Li et al. 2023, arXiv 2306.11222; OATS, Zhang and Papyan 2024, arXiv 2409.13652). The error
sum_i g_i D_i C D_iᵀ (C inputs, g the diagonal of the output gradients' moment, `core.calibrate`) falls by turns: given
S the factors are the weighted SVD of W - S, exactly the best of their rank; given the factors S is the optimal brain
surgeon's of W - left right, repaired, and taken only where it errs less than the S before. Two starts, factors first
and S first, and the better end. `low_rank` is the share of
the kept entries that the factors hold. S keeps its places in later training; it is stored as bitmap + survivors.

Helps matrices with a few large directions and scattered outliers. Gives bytes and stored parameters; the bitmap costs
one bit for each entry of W, which above 10x is most of the file. Does not give time: the runtime multiplies dense
matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from core.factorize.svd import two_factors
from core.method import Keep, Method, Tensor, resolved

if TYPE_CHECKING:
    import torch

    from core.phase import Build, Phase
    from core.surgeon import Judged


def parts(rows: int, cols: int, keep: float, low_rank: float) -> tuple[int, int] | None:
    """(rank, survivors of S) that hold `keep` of the entries; None where the matrix should stay dense."""
    entries = round(keep * rows * cols)
    rank = max(1, int(low_rank * entries / (rows + cols)))
    survivors = entries - rank * (rows + cols)
    if entries + rows * cols / 32 >= rows * cols:  # with the bitmap no smaller than dense
        return None
    return rank, max(1, survivors)


@dataclass(frozen=True)
class Sum:
    """left (m, r) right (r, n) + sparse (m, n), fp32; sparse is zero outside mask. `error` as the judge has it."""

    left: torch.Tensor
    right: torch.Tensor
    sparse: torch.Tensor
    mask: torch.Tensor
    error: float


def decompose(judged: Judged, rank: int, survivors: int, rounds: int) -> Sum:
    """The better of two starts: factors of W first, or S of W first. Another round never hurts."""
    return min((_turns(judged, rank, survivors, rounds, first) for first in ("factors", "sparse")), key=_error)


def _error(found: Sum) -> float:
    return found.error


def _turns(judged: Judged, rank: int, survivors: int, rounds: int, first: str) -> Sum:
    import torch

    from core.factorize.weighted_svd import weighted
    from core.masking import largest
    from core.surgeon import Judged, inverse_root, sweep

    w, upper = judged.weight, inverse_root(judged.hessian)
    left, right = torch.zeros(len(w), rank), torch.zeros(rank, w.shape[1])
    if first == "factors":
        left, right = weighted(w, judged.rows, judged.hessian).factors(rank)
    found: Sum | None = None
    for _ in range(rounds):
        rest = Judged(w - left.double() @ right.double(), judged.hessian, judged.rows)
        mask = largest(rest.scores(upper).float(), torch.ones_like(w, dtype=torch.bool), survivors)
        sparse = sweep(rest.weight, upper, mask)
        if found is not None and rest.error(sparse) >= rest.error(found.sparse.double()):
            break
        left, right = weighted(w - sparse, judged.rows, judged.hessian).factors(rank)
        error = judged.error(left.double() @ right.double() + sparse)
        found = Sum(left, right, sparse.float(), mask, error)
    if found is None:
        raise ValueError("rounds must be at least 1")
    return found


class LowRankSparse(Method):
    sparse: ClassVar[bool] = True

    method: Literal["low_rank_sparse"] = "low_rank_sparse"
    keep: Keep = Field("auto", description='Fraction of the entries that factors and S hold together, or "auto".')
    low_rank: float = Field(0.5, gt=0, lt=1, description="Share of the kept entries that the factors hold.")
    rounds: int = Field(4, ge=1, le=100, description="Turns of factors and S.")
    calibration_rows: int = Field(1024, ge=1, le=100_000, description="Training rows that the weights are taken from.")
    damping: float = Field(1e-2, ge=1e-5, le=1, description="Added to C and G, in units of their mean diagonal.")

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Two dense factors and a masked matrix for each."""
        result = []
        for tensor in tensors:
            held = (
                None if tensor.kind == "fixed" else parts(tensor.rows, tensor.cols, resolved(self.keep), self.low_rank)
            )
            if held is None:
                result.append(tensor)
                continue
            rank, survivors = held
            result += two_factors(tensor, rank)
            result.append(Tensor(f"{tensor.name}.sparse", tensor.rows, tensor.cols, survivors, tensor.kind))
        return result

    def compile(self, build: Build) -> Iterable[Phase]:
        from core.masking import put
        from core.surgeon import Surgeon
        from core.surgery import factorize

        surgeon = Surgeon(build, build.moments(self.calibration_rows), self.damping, scope="tensor")
        for parameter, judged in surgeon.judged().items():
            held = parts(len(judged.weight), judged.weight.shape[1], resolved(self.keep), self.low_rank)
            if held is None:
                continue
            name = parameter.removesuffix(".weight")
            found = decompose(judged, *held, self.rounds)
            factorize(build.model, name, found.left, found.right, found.sparse)
            put(build, f"{name}.sparse", found.mask)
        return ()
