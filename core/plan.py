"""From a size target to the numbers of a recipe: fills every `"auto"` that is a share, exactly, before anything runs.

Each method states its size law (`Method.stored`); this module adds them up and bisects on one dial, the fraction
of the compressible entries that stays (LadaBERT's P_hybrid = P_svd x P_prune). Pure Python, microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from core import codes
from core.catalogue import METHODS
from core.errors import RecipeInvalid, TargetImpossible
from core.family import family_named
from core.method import Split, Tensor
from core.recipe import TIMES, Ladder, Recipe, Target
from core.searching import check_searched
from core.task import TASKS, Task


class Matrix(BaseModel):
    """A weight: a linear (out, in), an embedding (vocabulary, width), or "fixed", what no method factorizes or prunes:
    other matrices, and vectors as one row."""

    model_config = ConfigDict(frozen=True)

    name: str
    rows: int = Field(gt=0)
    cols: int = Field(gt=0)
    kind: Literal["linear", "embedding", "fixed"]
    unit: int = Field(0, ge=0, description="Columns of a head or neuron that it reads; 0 where it reads none.")


class ModelShape(BaseModel):
    """What the plan needs to know of a model: its compressible matrices and how much is beside them."""

    model_config = ConfigDict(frozen=True)

    family: str
    task: str
    parameters: int = Field(gt=0, description="Stored parameters, tied tensors once.")
    layers: int
    hidden: int
    labels: tuple[str, ...]
    matrices: tuple[Matrix, ...]
    rest: tuple[Matrix, ...] = ()

    @property
    def of(self) -> Task:
        """Its task."""
        return TASKS[self.task]

    @property
    def vocabulary(self) -> int:
        """Rows of the word embedding."""
        return next(matrix.rows for matrix in self.matrices if matrix.kind == "embedding")

    def tensors(self) -> list[Tensor]:
        """The dense model as the plan counts it."""
        listed = [
            Tensor(m.name, m.rows, m.cols, m.rows * m.cols, m.kind, unit=m.unit) for m in (*self.matrices, *self.rest)
        ]
        left = self.parameters - sum(tensor.entries for tensor in listed)
        return [*listed, Tensor("", 1, left, left, "fixed")] if left else listed


class Size(BaseModel):
    """Planned size: of the packed weights exactly, of `model.onnx` as an upper bound within 1 %."""

    parameters: int
    nonzero: int
    size_bytes: int
    file_bytes: int


# What model.onnx holds beside its weights: bytes of the graph, of each encoder layer in it, of what stands around each
# tensor, of the tables that all unpacking shares, of the function of each kind of unpacking, of each call of one, of
# each cast from fp16, of the integer product of each int8 weight.
GRAPH_BYTES, LAYER_BYTES, TENSOR_BYTES = 8_192, 2_560, 192
TABLE_BYTES, KIND_BYTES, UNPACK_BYTES, HALF_BYTES, INT8_BYTES = 4_096, 1_536, 480, 144, 640


def size_of(recipe: Recipe, shape: ModelShape) -> Size:
    """The size that a resolved recipe gives, from the methods' size laws. Exact for the packed weights."""
    tensors = recipe.stored(shape.tensors())
    size_bytes = sum(tensor.size_bytes for tensor in tensors)
    return Size(
        parameters=sum(tensor.entries for tensor in tensors if tensor.counted),
        nonzero=sum(tensor.kept for tensor in tensors if tensor.counted),
        size_bytes=size_bytes,
        file_bytes=size_bytes + graph_bytes(tensors, shape.layers),
    )


def graph_bytes(tensors: Sequence[Tensor], layers: int) -> int:
    """Bytes of `model.onnx` beside those of its weights, at most."""
    kinds = [tensor.unpacking for tensor in tensors if tensor.unpacking]
    half = sum(tensor.bits < 32 and not tensor.levels and tensor.counted for tensor in tensors)
    int8 = sum(tensor.levels == codes.INT8 or tensor.integer for tensor in tensors)
    found = GRAPH_BYTES + LAYER_BYTES * layers + TENSOR_BYTES * len(tensors) + HALF_BYTES * half
    found += INT8_BYTES * int8
    return found + TABLE_BYTES * bool(kinds) + KIND_BYTES * len(set(kinds)) + UNPACK_BYTES * len(kinds)


def ratios(size: Size, shape: ModelShape) -> dict[str, float]:
    """Planned size in the names of the size targets."""
    return {
        "parameter_ratio": shape.parameters / size.nonzero,
        "bytes_ratio": 4 * shape.parameters / size.file_bytes,
        "max_nonzero": float(size.nonzero),
        "max_bytes": float(size.file_bytes),
    }


def file_limit(target: Target, shape: ModelShape) -> int | None:
    """The most bytes that `model.onnx` may take; None where no target says so."""
    limits = [] if target.bytes_ratio is None else [int(4 * shape.parameters / target.bytes_ratio)]
    return min([*limits, *([] if target.max_bytes is None else [target.max_bytes])], default=None)


def misses(target: Mapping[str, float], reached: Mapping[str, float]) -> dict[str, float]:
    """Targets that `reached` does not meet -> the value reached. `max_*` are upper bounds, the rest lower."""
    return {
        name: reached[name]
        for name, wanted in target.items()
        if name in reached and (reached[name] > wanted if name.startswith("max_") else reached[name] < wanted)
    }


def fill(recipe: Recipe, target: Target, shape: ModelShape) -> Recipe:
    """The recipe with every "auto" replaced, and every pattern by the matrices that it names: the largest model that
    meets all size targets; all that this model has, if it has none.

    Where bits are "auto" it stays as it is, and is known to have a solution: `core.spend` fills it in the job.

    Raises:
        RecipeInvalid: a size that the teacher has already and no other target, an "auto" field and no size target to
            fill it from, steps that bits "auto" does not go with, or a
            matrix named by a step that the model does not have.
        TargetImpossible: the smallest model that this recipe can make is still too large.
    """
    recipe = _spelled_out(recipe, shape)
    sizes, dials = target.sizes(), _auto_steps(recipe)
    _refuse_idle(target, shape)
    asked = sizes or recipe.aim(target) or (recipe.narrower and target.times())
    if (dials or recipe.spender) and not asked:
        at, names = ", ".join(recipe.open_fields()), ", ".join(recipe.dials())
        raise RecipeInvalid(f'{at} is "auto": give one of the targets {names}', param="/target")
    if recipe.is_paced(target):
        _check_paced(recipe, sizes)
        _refuse_missed(sizes, ratios(size_of(_narrowest(recipe, shape), shape), shape))
        return recipe
    if recipe.searcher is not None:
        check_searched(recipe, sizes, SPENT)
        return recipe
    # Bytes alone leave the embedding what costs it next to nothing.
    recipe = recipe.with_auto(products="int8", embedding_bits=4.0 if sizes else 8.0)
    if recipe.spender is not None:
        _check_spendable(recipe, sizes, shape)
        return recipe
    if not sizes:
        return recipe
    low, high = 1e-4, 1.0
    _refuse_missed(sizes, ratios(size_of(_at(recipe, low), shape), shape))
    if not misses(sizes, ratios(size_of(_at(recipe, high), shape), shape)):
        return _at(recipe, high)
    for _ in range(50):
        middle = (low + high) / 2
        if misses(sizes, ratios(size_of(_at(recipe, middle), shape), shape)):
            high = middle
        else:
            low = middle
    return _at(recipe, low)


LEAST_BITS = 1
SPENT = ("bytes_ratio", "max_bytes")


def _check_spendable(recipe: Recipe, sizes: Mapping[str, float], shape: ModelShape) -> None:
    """Whether bytes are what is asked for, and so many can be enough. What they buy is decided in the job."""
    index = _check_bits(recipe, sizes)
    # Every matrix in one bit, those that may be cut at rank 1: nothing that the job can find is smaller.
    least = _in_one_bit(recipe, shape)
    for place, step in enumerate(least.steps):
        if place != index and not step.trains and not step.profiled_after and not (step.spends_ranks and step.is_open):
            rank = ", ".join(name for name, method in METHODS.items() if method.spends_ranks)
            raise RecipeInvalid(
                f'steps[{place}] ({step.name()}) does not go with bits "auto", which spends all bytes itself: '
                f'leave it out, use {rank} with keep "auto", or give steps[{index}].bits a number',
                param=f"/recipe/steps/{place}",
            )
    _refuse_missed(sizes, ratios(size_of(_at(least, 1e-4), shape), shape))


def _check_bits(recipe: Recipe, sizes: Mapping[str, float]) -> int:
    """The place of the step whose bits are "auto"; no size but bytes may be asked for beside them."""
    index = next(place for place, step in enumerate(recipe.steps) if step.spends_bytes)
    if other := [name for name in sizes if name not in SPENT]:
        raise RecipeInvalid(
            f'steps[{index}].bits is "auto" and spends bytes: give {" or ".join(SPENT)} in place of {other[0]}',
            param=f"/target/{other[0]}",
        )
    return index


def _in_one_bit(recipe: Recipe, shape: ModelShape) -> Recipe:
    """The step whose bits are "auto", if there is one, gives every matrix one bit."""
    every = {m.name: LEAST_BITS for m in shape.rest if m.rows > 1}
    steps = (
        step.model_copy(update={"bits": LEAST_BITS, "each": every}) if step.spends_bytes else step
        for step in recipe.steps
    )
    return recipe.model_copy(update={"steps": tuple(steps)})


def _check_paced(recipe: Recipe, sizes: Mapping[str, float]) -> None:
    """Whether heads, neurons, and bits that are "auto", are all that is left to decide."""
    if recipe.spender is not None:
        _check_bits(recipe, sizes)
    for index, step in enumerate(recipe.steps):
        if step.family() == "factorize":
            raise RecipeInvalid(
                f"steps[{index}] ({step.name()}) makes factors, which no plan has beside heads and neurons that are "
                "left open, for of their milliseconds nothing is known: leave out the one or the other",
                param=f"/recipe/steps/{index}",
            )
        if step.is_open and not step.reads_units:
            raise RecipeInvalid(
                f'steps[{index}].keep is "auto", which milliseconds do not fill: give it a number, or leave the '
                "milliseconds out of the target",
                param=f"/recipe/steps/{index}/keep",
            )
        planned = step.trains or step.reads_units or step.profiled_after
        if recipe.spender not in (None, step) and not planned:
            raise RecipeInvalid(
                f'steps[{index}] ({step.name()}) does not go with bits "auto", which spends all bytes itself: leave '
                "it out, or give the bits a number",
                param=f"/recipe/steps/{index}",
            )


def _narrowest(recipe: Recipe, shape: ModelShape) -> Recipe:
    """Nothing that milliseconds and bytes may choose is smaller."""
    timed = family_named(shape.family, shape.task).timed
    none = {m.name: 0 for m in shape.matrices if m.unit and any(block.read_by(m.name) for block in timed)}
    filled = recipe.with_units(none).with_auto(products="int8", embedding_bits=float(LEAST_BITS))
    return _in_one_bit(filled, shape)


def check_ladder(recipe: Recipe, ladder: Ladder) -> None:
    """Raises RecipeInvalid where every value of the ladder would give the same model."""
    if (names := set(ladder.given()) & set(TIMES)) and recipe.narrower is None:
        narrower = ", ".join(name for name, method in METHODS.items() if method.reads_units)
        raise RecipeInvalid(
            f'a ladder over {names.pop()} needs a step that milliseconds decide: {narrower} with keep "auto"',
            param="/ladder",
        )


def _spelled_out(recipe: Recipe, shape: ModelShape) -> Recipe:
    """The recipe in which every `each` names single matrices: patterns (`*`, `?`, `[seq]`) give their number to all
    that they match and that have no line of their own; of two patterns the longer one counts."""
    every = [matrix.name for matrix in (*shape.matrices, *shape.rest)]
    readers = [matrix.name for matrix in shape.matrices if matrix.unit]
    steps = []
    for index, step in enumerate(recipe.steps):
        given: Mapping[str, float] = getattr(step, "each", None) or {}
        what, known = ("linear whose heads or neurons may go", readers) if step.reads_units else ("matrix", every)
        found: dict[str, float] = {}
        for name, number in sorted(given.items(), key=lambda item: (item[0] in known, len(item[0]), item[0])):
            matched = [name] if name in known else [one for one in known if fnmatchcase(one, name)]
            if not matched:
                raise RecipeInvalid(
                    f"steps[{index}].each names {name}, which is no {what} of this model "
                    f"({step.name()} on {shape.family}); " + (f"one is {known[0]}" if known else "it has none"),
                    param=f"/recipe/steps/{index}/each",
                )
            found |= dict.fromkeys(matched, number)
        steps.append(step.model_copy(update={"each": found}) if given else step)
    return recipe.model_copy(update={"steps": tuple(steps)})


def _refuse_missed(sizes: Mapping[str, float], reached: Mapping[str, float]) -> None:
    if missed := misses(sizes, reached):
        name, best = next(iter(missed.items()))
        raise TargetImpossible(
            f"target.{name} = {sizes[name]:g} cannot be reached by this recipe: the limit for this model is {best:.4g}",
            param=f"/target/{name}",
        )


def _refuse_idle(target: Target, shape: ModelShape) -> None:
    """Sizes alone that the teacher itself has would have a job that changes nothing."""
    sizes = target.sizes()
    own = {"max_nonzero": shape.parameters, "max_bytes": 4 * shape.parameters}
    idle = [name for name in sizes if name in own and sizes[name] >= own[name]]
    if idle and len(idle) == len(sizes) and not target.times() and target.min_retention is None:
        name = idle[0]
        raise RecipeInvalid(
            f"target.{name} = {sizes[name]:.0f} is what the model has without being compressed ({own[name]})",
            param=f"/target/{name}",
        )


def _auto_steps(recipe: Recipe) -> list[int]:
    return [index for index, step in enumerate(recipe.steps) if step.is_open]


def _at(recipe: Recipe, overall: float) -> Recipe:
    """The recipe at one position of the dial: `overall` of the compressible entries stay."""
    dials = _auto_steps(recipe)
    factors = [index for index in dials if recipe.steps[index].family() == "factorize"]
    split = next((recipe.steps[index].split for index in factors), None)
    svd = _interpolate(split, overall) if split and len(dials) > len(factors) else overall
    keeps = {index: svd if index in factors else overall / svd if factors else overall for index in dials}
    steps = tuple(
        step.model_copy(update={"keep": min(1.0, keeps[index])}) if index in keeps else step
        for index, step in enumerate(recipe.steps)
    )
    return recipe.model_copy(update={"steps": steps})


def _interpolate(split: Split, overall: float) -> float:
    for (x0, y0), (x1, y1) in pairwise(split):
        if overall <= x1:
            return y0 + (y1 - y0) * (overall - x0) / (x1 - x0)
    return 1.0
