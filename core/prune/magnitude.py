"""Unstructured magnitude pruning during training, on the factors where a matrix was factorized, else on W itself.

The smallest |w| of each tensor are masked, more and more of them: the share removed follows the cubic
s(t) = s_f (1 - (1 - t/ramp)^3) (Zhu and Gupta 2017, arXiv 1710.01878) in `increments` jumps over the first
`ramp` of the phase, then the masks stay and training goes on. A masked entry is zero from then on and is not
stored (Han et al. 2015, arXiv 1506.02626). `keep` is LadaBERT's P_prune (arXiv 2004.04124): the fraction of
entries left.

Gives bytes and stored parameters. Gives no time: the runtime multiplies dense matrices. Needs a training step after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from core.method import Keep, Method, Tensor, resolved

if TYPE_CHECKING:
    from core.phase import Build, Phase


def kept_entries(entries: int, keep: float) -> int:
    """How many of a tensor's entries survive."""
    return max(1, round(keep * entries))


def masked(tensors: Sequence[Tensor], keep: float) -> list[Tensor]:
    """The size law of pruning: `keep` of every tensor's entries, biases and norms left alone."""
    return [t if t.kind == "fixed" else t.keep(kept_entries(t.entries, keep)) for t in tensors]


def density(fraction: float, keep: float, ramp: float) -> float:
    """Share of entries left when `fraction` of the phase is over: 1 at the start, `keep` from `ramp` on."""
    left = max(0.0, 1.0 - fraction / ramp)
    return keep + (1.0 - keep) * left**3


class Magnitude(Method):
    needs_training: ClassVar[bool] = True

    method: Literal["magnitude"] = "magnitude"
    keep: Keep = Field("auto", description='Fraction of the entries left, or "auto".')
    ramp: float = Field(0.6, gt=0, le=1, description="Share of the phase over which entries are removed.")
    increments: int = Field(20, ge=1, le=1000, description="Number of jumps on the way.")

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return masked(tensors, resolved(self.keep))

    def compile(self, build: Build) -> Iterable[Phase]:
        from core.masking import Gradual, keep_largest

        keep = resolved(self.keep)
        prune = partial(keep_largest, build)
        build.hooks.append(Gradual(prune, keep=keep, ramp=self.ramp, increments=self.increments))
        return ()
