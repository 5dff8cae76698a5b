"""Truncated SVD of every encoder linear and of the word embedding.

W (out, in) becomes B A with A (r, in) and B (out, r): the closest rank-r matrix in the Frobenius norm (Eckart and
Young 1936, doi:10.1007/BF02288367). `keep` is the fraction of the matrix's entries that the two factors hold,
r = floor(keep * out * in / (out + in)): LadaBERT's P_svd (arXiv 2004.04124). A matrix whose factors would hold as
much as itself stays dense.

Helps wide layers with fast-decaying spectra, in bytes and in time alike. Does not help small square layers, and
hurts accuracy at once below about half: follow it with `distill`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from core.method import Keep, Method, Split, Tensor, resolved

if TYPE_CHECKING:
    import torch

    from core.phase import Build, Phase


def rank_for(rows: int, cols: int, keep: float) -> int | None:
    """Rank at which the two factors hold `keep` of the entries; None where the matrix should stay dense."""
    if keep >= 1:
        return None
    rank = max(1, int(keep * rows * cols / (rows + cols)))
    return rank if rank * (rows + cols) < rows * cols else None


def two_factors(tensor: Tensor, rank: int) -> list[Tensor]:
    """left (rows, rank) and right (rank, cols) as the plan counts them."""
    shapes = {"left": (tensor.rows, rank), "right": (rank, tensor.cols)}
    return [Tensor(f"{tensor.name}.{name}", m, n, m * n, tensor.kind) for name, (m, n) in shapes.items()]


def factored(tensors: Sequence[Tensor], keep: float, *, embedding: bool) -> list[Tensor]:
    """The size law of a factorization: each matrix as two factors where they hold less than it does."""
    result = []
    for tensor in tensors:
        wanted = tensor.kind == "linear" or (tensor.kind == "embedding" and embedding)
        rank = rank_for(tensor.rows, tensor.cols, keep) if wanted else None
        if rank is None:
            result.append(tensor)
            continue
        result += two_factors(tensor, rank)
    return result


def truncate(weight: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best rank-`rank` factors of `weight` (m, n): left (m, r), right (r, n), scale shared between them."""
    import torch

    u, s, vh = torch.linalg.svd(weight.double(), full_matrices=False)  # (m, k) (k,) (k, n), k = min(m, n)
    root = s[:rank].sqrt()
    # Contiguous: the SVD's strides are column-major, which changes matmul kernels and breaks safetensors.
    left, right = u[:, :rank] * root, root[:, None] * vh[:rank]
    return left.to(weight.dtype).contiguous(), right.to(weight.dtype).contiguous()


class Svd(Method):
    # LadaBERT's split of P_hybrid into P_svd and P_prune: (P_hybrid, P_svd), linear in between. The paper's own split
    # is not published; pure pruning of W above one half.
    split: ClassVar[Split] = ((0.0, 0.3), (0.1, 0.4), (0.2, 0.5), (0.3, 0.6), (0.4, 0.8), (0.5, 1.0), (1.0, 1.0))

    method: Literal["svd"] = "svd"
    keep: Keep = Field("auto", description='Fraction of each matrix\'s entries that its factors hold, or "auto".')
    embedding: bool = Field(True, description="Factorize the word embedding too.")

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return factored(tensors, resolved(self.keep), embedding=self.embedding)

    def compile(self, build: Build) -> Iterable[Phase]:
        from core.surgery import factorize

        keep = resolved(self.keep)
        for name in build.compressible():
            if name == build.family.embedding and not self.embedding:
                continue
            weight = build.weight(name)
            rank = rank_for(weight.shape[0], weight.shape[1], keep)
            if rank is not None:
                factorize(build.model, name, *truncate(weight, rank))
        return ()
