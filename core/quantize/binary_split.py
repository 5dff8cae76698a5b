"""Every trained weight of three values becomes the sum of two of two values, to the bit; then training goes on.

The halves of a weight w whose ternary form is t add up to w, and their binary forms to t (BinaryBERT, Bai et al. 2021,
arXiv 2012.15701, section 3.2): the student that a training of `ternary` left is the one that the next training
begins with, and of each sum four values are then free where there were three. Two bits an entry, eight of each half to
a byte: with half of the heads and neurons removed before (`structured`), one bit for each entry of the teacher. After
loading a sum is one matrix.

Better than `binary`, which has to find its way down from the teacher at once. It saves no byte itself, and does not go
without `ternary` and a training before it, and a training after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from core.method import Method, Tensor

if TYPE_CHECKING:
    from core.phase import Build, Phase


class BinarySplit(Method):
    needs_training: ClassVar[bool] = True
    follows: ClassVar[str] = "ternary"

    method: Literal["binary_split"] = "binary_split"

    def objection(self, before: Sequence[Method]) -> str | None:
        found = next((one for one in before if one.name() == self.follows), None)
        if found is None:
            return f"needs a step {self.follows} and a training before it: it splits weights of three values"
        if getattr(found, "inputs", "fp32") != "fp32":
            return f'splits weights whose inputs come as they are: leave `inputs` of {self.follows} at "fp32"'
        if any(one.family() == "factorize" for one in before):
            return "splits whole matrices: leave out the factors"
        return None

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Two of one bit an entry in the place of each matrix of three values."""
        found: list[Tensor] = []
        for one in tensors:
            halves = ("first", "second") if one.kind != "fixed" else ()
            found += [replace(one, name=f"{one.name}.{half}", levels=2) for half in halves] or [one]
        return found

    def compile(self, build: Build) -> Iterable[Phase]:
        from core.binarize import binary, split
        from core.masking import prunable
        from core.surgery import split_in_two
        from core.ternarize import Ternary

        for name, parameter in prunable(build).items():
            values, rounded = build.values.pop(name), parameter.detach()
            if not isinstance(values, Ternary):
                raise TypeError(f"{name} is no weight of three values")
            latent = build.latent.pop(name, rounded)
            if not (values.quick(latent) == rounded).all():  # weights of another moment were kept
                latent = rounded
            module = name.rpartition(".")[0]
            halves = split(latent, rounded, shared=values.shared)
            split_in_two(build.model, module, *(half.float() for half in halves))
            for part in ("first", "second"):
                weight = build.model.get_parameter(f"{module}.{part}").detach()
                build.values[f"{module}.{part}"] = binary(weight, shared=values.shared)
        build.latent.clear()
        return ()
