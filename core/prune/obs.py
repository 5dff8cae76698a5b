"""Unstructured pruning by the optimal brain surgeon, layer by layer: remove what the layer can spare, repair the rest.

For a row w of a layer with inputs of second moment C, removing entry j and moving the others optimally costs
w_j² / [C⁻¹]_jj (Hassibi and Stork 1993; layer by layer: OBC, Frantar and Alistarh 2022, arXiv 2208.11580). Rows weigh
as the distillation loss feels them (diagonal of G, `core.calibrate`), so scores compare within a matrix and between
matrices: one threshold for all, `scope` "model". On factors the neighbour takes part: `right` of W = left right sees
the inputs and is felt through left, `left` sees what `right` lets through. Rows of the embedding weigh as their tokens
are frequent.

At each pruning the survivors move in one sweep over the columns (SparseGPT, Frantar and Alistarh 2023, arXiv
2301.00774); per matrix the magnitude solution stays where its layer error is lower. `when` "once" prunes at once;
"gradual" does so in `increments` jumps during the next training, along the cubic schedule of `magnitude`.

Beats magnitude at every density, by more the fewer entries stay. Gives bytes and stored parameters; does not give
time, for the runtime multiplies dense matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from core.method import Keep, Method, Tensor, resolved
from core.prune.magnitude import masked

if TYPE_CHECKING:
    from core.phase import Build, Phase


class Obs(Method):
    needs_training: ClassVar[bool] = True

    method: Literal["obs"] = "obs"
    keep: Keep = Field("auto", description='Fraction of the entries left, or "auto".')
    when: Literal["gradual", "once"] = Field("gradual", description="During the next training, or at once.")
    scope: Literal["model", "tensor"] = Field("model", description="One threshold for all, or one density for each.")
    ramp: float = Field(0.6, gt=0, le=1, description="Share of the training over which entries are removed.")
    increments: int = Field(10, ge=1, le=1000, description="Number of jumps on the way.")
    calibration_rows: int = Field(1024, ge=1, le=100_000, description="Training rows that C and G are taken from.")
    damping: float = Field(1e-2, ge=1e-5, le=1, description="Added to C and G, in units of their mean diagonal.")

    def acts_in_training(self) -> bool:
        return self.when == "gradual"

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """As `magnitude`; one threshold for all keeps the same total."""
        return masked(tensors, resolved(self.keep))

    def compile(self, build: Build) -> Iterable[Phase]:
        from core.masking import Gradual
        from core.surgeon import Surgeon

        surgeon = Surgeon(build, build.moments(self.calibration_rows), self.damping, scope=self.scope)
        keep = resolved(self.keep)
        if self.when == "once":
            surgeon.prune(keep)
        else:
            build.hooks.append(Gradual(surgeon.prune, keep=keep, ramp=self.ramp, increments=self.increments))
        return ()
