"""What a compression method is: a schema, a size law, and a way to compile itself into training phases.

One file under `factorize/ prune/ quantize/ structure/ distill/` is one mechanism. The folder is its family, the file
name is its public name, the module docstring is its card (`GET /v1/methods`), the fields are the request schema.
`core/catalogue.py` walks the folders; nothing else lists the methods.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from core import codes
from core.errors import RecipeInvalid

if TYPE_CHECKING:
    from core.phase import Build, Phase

# Fraction of the entries that stay; "auto" is filled by the plan from a size target.
Keep = Annotated[float, Field(gt=0, le=1)] | Literal["auto"]


LEVELS = {round(codes.bits(levels), 1): levels for levels in codes.DIGITS}  # bits -> number of levels


def known_bits(bits: float) -> float:
    """Raises ValueError where no codes have so many."""
    if bits not in LEVELS:
        raise ValueError(f"{bits:g} bits; legal are {', '.join(f'{one:g}' for one in LEVELS)}")
    return bits


Bits = Annotated[float, AfterValidator(known_bits), Field(json_schema_extra={"enum": [*LEVELS]})]

# (share of entries that factors and masks keep together, share that the factors keep), linear in between.
Split = tuple[tuple[float, float], ...]


def resolved(keep: Keep) -> float:
    """The number behind a `keep` that the plan has filled."""
    if isinstance(keep, str):
        raise RecipeInvalid('keep is still "auto": fill the recipe with core.plan.fill first')
    return keep


@dataclass(frozen=True)
class Tensor:
    """One stored weight, as the plan counts it, before any of it exists.

    `rows x cols` is its dense shape, `kept` how many entries are stored, `bits` the width of each; or, where `levels`
    is above 0, the entries are codes below it, with a scale for every `group` columns of a row (`core.codes`), or int8.
    `unit`: how many columns of a reader go together with a head or neuron; 0 where it reads none.
    `integer`: codes that are multiplied as whole numbers, with inputs of 8 bits.
    `counted`: whether it is a parameter; a table of whole numbers takes bytes and is none.
    `kind` is "linear" (out, in), "embedding" (vocabulary, width) or "fixed" (biases, norms: never touched).
    """

    name: str
    rows: int
    cols: int
    kept: int
    kind: Literal["linear", "embedding", "fixed"]
    bits: int = 32
    levels: int = 0
    group: int = 0
    unit: int = 0
    counted: bool = True
    integer: bool = False

    @property
    def entries(self) -> int:
        return self.rows * self.cols

    @property
    def size_bytes(self) -> int:
        """Bytes in the file: dense, or one bit an entry for the mask plus the survivors, whichever is less."""
        if self.levels == codes.INT8:
            return self.entries + 2 * self.rows
        if self.levels:
            bitmap = -(-self.entries // 8) if self.kept < self.entries else 0
            scales = codes.scale_bytes(self.rows * -(-self.cols // self.group))
            return bitmap + codes.size_bytes(self.levels, self.kept) + scales + 2 * self.levels
        dense = -(-self.entries * self.bits // 8)
        masked = -(-self.entries // 8) + -(-self.kept * self.bits // 8)
        return min(dense, masked) if self.kept < self.entries else dense

    @property
    def unpacking(self) -> str:
        """The kind of unpacking that it needs at load, or nothing."""
        masked = self.kept < self.entries
        if self.levels == codes.INT8:
            return ""
        if self.levels:
            kind = codes.kind(self.levels, self.group, (self.rows, self.cols), masked=masked)
            return f"{codes.INTEGER}{kind}" if self.integer else kind
        return "Packed" if masked else ""

    def keep(self, kept: int) -> Tensor:
        return replace(self, kept=kept)


def part_of(levels: int) -> str:
    """The name of what a module holds of a weight in so many levels, where its rows have different numbers of them."""
    return f"of{levels}"


PARTS = (".left", ".right", ".sparse", ".first", ".second", *(f".{part_of(levels)}" for levels in codes.DIGITS))


def module_of(name: str) -> str:
    """The module that a stored matrix is of: its own name, or that of the matrix whose factor it is."""
    return next((name.removesuffix(part) for part in PARTS if name.endswith(part)), name)


def place_bits(rows: int) -> int:
    """Of a number that names one of so many rows, in a file."""
    return 16 if rows <= 2**15 else 32


def rest_of(tensor: Tensor, bits: int, group: int) -> Tensor:
    """A matrix or vector beside the encoder, in codes of so many bits or in fp16; 32 bits leave both."""
    if bits == 32:
        return tensor
    if tensor.rows == 1:
        return replace(tensor, bits=16)
    return replace(tensor, levels=LEVELS[bits], group=min(group, tensor.cols))


class Closed(BaseModel):
    """Base of request models: frozen; an unknown field is refused, and so is a truth value where a number belongs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_as_number(cls, given: object) -> object:
        """Pydantic takes true for 1, which nobody means. (No validator of a field may stand on a discriminator.)"""
        for name, value in given.items() if isinstance(given, Mapping) else ():
            field = cls.model_fields.get(name)
            if field is None or "bool" in str(field.annotation):
                continue
            inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
            if any(isinstance(one, bool) for one in inside):
                raise ValueError(f"{name}: must be a number, not true or false")
        return given


class Method(Closed):
    """One step of a recipe."""

    version: ClassVar[int] = 1  # raised by whoever changes the numbers that this mechanism gives
    trains: ClassVar[bool] = False  # this step runs a training phase
    split: ClassVar[Split | None] = None  # of a factorization: how it shares a size with the pruning after it
    sparse: ClassVar[bool] = False  # this step sets masks that are the whole size: no pruning may follow
    multiplies: ClassVar[bool] = (
        False  # this step wants each weight to be what inputs are multiplied with, not a summand
    )
    spends_ranks: ClassVar[bool] = False  # bytes that bits "auto" spends may go to ranks of this factorization
    reads_units: ClassVar[bool] = False  # `each` of this step names linears that read heads or neurons
    profiled_after: ClassVar[bool] = False  # what the plan decides is measured on the model that this step leaves
    needs_training: ClassVar[bool] = False  # this step acts, or may act, during the next training phase
    searches: ClassVar[bool] = False  # what this step is may be found in the job, by a search (`core.assign`)
    follows: ClassVar[str] = ""  # the mechanism of the same family whose trained weights this step changes

    @classmethod
    def name(cls) -> str:
        """The public name, equal to the file's."""
        return str(cls.model_fields["method"].default)

    @classmethod
    def family(cls) -> str:
        """The folder that the mechanism lives in."""
        return cls.__module__.split(".")[-2]

    @property
    def is_open(self) -> bool:
        """Whether how much it keeps is "auto"."""
        return getattr(self, "keep", None) == "auto" and getattr(self, "each", None) is None

    @property
    def searching(self) -> bool:
        """Whether a search has still to find what this step is."""
        return False

    @property
    def spends_bytes(self) -> bool:
        """Whether its bits are "auto": then they, and ranks that may be, fill a target's bytes (`core.spend`)."""
        return getattr(self, "bits", None) == "auto" and not self.searches

    @classmethod
    def card(cls) -> str:
        """The module docstring: what, source, when it helps, when it does not."""
        return inspect.getdoc(inspect.getmodule(cls)) or ""

    def objection(self, _before: Sequence[Method]) -> str | None:
        """What, of the steps before it, this step cannot come after; None where it can."""
        return None

    def acts_in_training(self) -> bool:
        """Whether this step, as it is set, acts during the next training phase."""
        return self.needs_training

    def narrows(self, _before: Method) -> bool:
        """Whether this step, after `_before` has run, removes but more of the same units."""
        return False

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The size law: what this step makes of the stored tensors. Exact, before anything runs."""
        return list(tensors)

    def compile(self, build: Build) -> Iterable[Phase]:
        """Change `build.model` at once, leave hooks for the next phase, or yield phases to train. On a worker."""
        raise TypeError(f"{type(self).__name__} defines no compile()")
