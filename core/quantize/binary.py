"""Two values a weight, -a and a: one bit each.

As `ternary`, with a the mean size of a row (or matrix), which is the least square error (Rastegari et al. 2016, arXiv
1603.05279), found anew after each step; eight entries take a byte. Straight from the teacher this is the steepest way
down: `binary_split` after a training of three values comes to the same bytes with more of the teacher left (Bai et al.
2021, BinaryBERT, arXiv 2012.15701). Needs a training after it. The weights are fp32 after loading: bytes, not time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from core.method import LEVELS, Method, Tensor, rest_of

if TYPE_CHECKING:
    from core.phase import Build, Phase


class Binary(Method):
    needs_training: ClassVar[bool] = True

    method: Literal["binary"] = "binary"
    scale: Literal["row", "matrix"] = Field("row", description="What of a linear shares one value a.")
    rest_bits: Literal[8, 32] = Field(8, description="Of other matrices, vectors then being fp16; 32 leaves both.")
    rest_group: int = Field(64, ge=8, le=65_536, description="Columns that share a scale, of other matrices.")

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """One bit an entry and a scale a row for matrices, `rest_bits` for others, fp16 for vectors."""
        return [
            rest_of(one, self.rest_bits, self.rest_group)
            if one.kind == "fixed"
            else replace(one, levels=2, group=one.cols)
            for one in tensors
        ]

    def compile(self, build: Build) -> Iterable[Phase]:
        from core.binarize import binary
        from core.masking import prunable
        from core.rounding import round_rest

        for name, parameter in prunable(build).items():
            shared = self.scale == "matrix" and not name.startswith(f"{build.family.embedding}.")
            build.values[name] = binary(parameter.detach(), shared=shared)
        if self.rest_bits != 32:
            round_rest(build, lambda _: LEVELS[self.rest_bits], self.rest_group)
        return ()
