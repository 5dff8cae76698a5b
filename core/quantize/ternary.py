"""Three values a weight, -a, 0 and a, trained: 1.6 bits each, with an a that follows what is trained beside it.

Every encoder linear has one a for each output (or one for the matrix), the word embedding one for each token, which
stays. The weights of the teacher stay beside their ternary form in fp32 and are what moves: gradients pass straight
through (Bengio et al. 2013, arXiv 1308.3432), and after each step a and the zeros of a linear are found anew. `form`
"exact" begins at the least square error, by a sort, and goes on with one alternation a step, where an error counts by
the root of Adam's second moment if `loss_aware` (Hou and Kwok 2018, arXiv 1802.08635); "twn" is the rule of Ternary
Weight Networks (Li and Liu 2016, arXiv 1605.04711): zero up to 0.7 of the mean. Five entries take a byte. Matrices
beside the encoder take `rest_bits`, vectors fp16. With `inputs` "int8" a linear's inputs are rounded to 256 evenly
spaced values at the scale of each batch, in training too, and products are of integers, as `int8` makes them.
TernaryBERT (Zhang et al. 2020, arXiv 2009.12812) is this with a distillation of hidden states, attention scores and
logits.

Fifteen times fewer bytes and more, where a training of some hundred steps is worth it: untrained it is of no use. With
inputs as they come the weights are fp32 after loading, so it saves bytes, not time. `gptq` at the same bits chooses
its three values freely, with error feedback, and keeps them while it trains.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from core.method import LEVELS, Method, Tensor, rest_of

if TYPE_CHECKING:
    from core.phase import Build, Phase

THREE = 3


class Ternary(Method):
    needs_training: ClassVar[bool] = True

    method: Literal["ternary"] = "ternary"
    form: Literal["exact", "twn"] = Field("exact", description="How values are found: least error, or 0.7 of the mean.")
    loss_aware: bool = Field(True, description='Of "exact": errors count by the root of the second moment of Adam.')
    scale: Literal["row", "matrix"] = Field("row", description="What of a linear shares one value a.")
    inputs: Literal["fp32", "int8"] = Field("fp32", description="Of linears: as they come, or rounded to 8 bits.")
    rest_bits: Literal[8, 32] = Field(8, description="Of other matrices, vectors then being fp16; 32 leaves both.")
    rest_group: int = Field(64, ge=8, le=65_536, description="Columns that share a scale, of other matrices.")

    def objection(self, before: Sequence[Method]) -> str | None:
        summand = next((one for one in before if one.sparse), None)
        if summand is None or self.inputs == "fp32":
            return None
        return (
            f'multiplies whole matrices with inputs "int8": leave out {summand.name()}, whose sparse part is a summand'
        )

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Codes of five entries a byte and a scale a row for matrices, `rest_bits` for others, fp16 for vectors."""
        return [self._stored(tensor) for tensor in tensors]

    def _stored(self, tensor: Tensor) -> Tensor:
        if tensor.kind != "fixed":
            integer = self.inputs == "int8" and tensor.kind == "linear"
            return replace(tensor, levels=THREE, group=tensor.cols, integer=integer)
        return rest_of(tensor, self.rest_bits, self.rest_group)

    def compile(self, build: Build) -> Iterable[Phase]:
        from core.masking import prunable
        from core.rounding import round_rest
        from core.surgery import round_inputs
        from core.ternarize import ternary

        for module in build.compressible():
            if self.inputs == "int8" and module != build.family.embedding:
                round_inputs(build.model, module)
        for name, parameter in prunable(build).items():
            shared = self.scale == "matrix" and not name.startswith(f"{build.family.embedding}.")
            build.values[name] = ternary(parameter.detach(), self.form, shared=shared, loss_aware=self.loss_aware)
        if self.rest_bits != 32:
            round_rest(build, lambda _: LEVELS[self.rest_bits], self.rest_group)
        return ()
