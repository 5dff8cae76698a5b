"""What a user may ask for: a recipe (ordered steps), a target (what the result must reach), and presets of both.

A recipe is data: typed, closed, frozen, versioned. Presets are TOML files in `core/presets/`, found by walking.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, model_validator

from core.catalogue import FAMILIES, METHODS
from core.method import Closed, Method, Tensor
from core.profile import Products

if TYPE_CHECKING:
    Step = Method
else:
    # The static type of a step is Method; at run time it is the discriminated union of everything discovered.
    Step = Annotated[Union[tuple(METHODS.values())], Field(discriminator="method")]  # noqa: UP007 - built, not written

Ratio = Annotated[float, Field(gt=1, le=1000, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0, lt=2**53)]
Milliseconds = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


# A factor has no matrix left to factorize, a second mask would cut the first, a second grid would undo the first.
ONCE = ("factorize", "prune", "quantize")


class Recipe(Closed):
    """An ordered list of method steps."""

    version: Literal[1] = 1
    steps: tuple[Step, ...] = Field(min_length=1, max_length=8)

    @property
    def narrower(self) -> Method | None:
        """The step that leaves out heads and neurons and does not say how many."""
        return next((step for step in self.steps if step.reads_units and step.is_open), None)

    @property
    def searcher(self) -> Method | None:
        """The step that a search has still to find; there is one at most, for a recipe quantises once."""
        return next((step for step in self.steps if step.searching), None)

    def with_assigned(self, each: Mapping[str, str]) -> Recipe:
        """The recipe in which the step that searches has found this."""
        steps = (step.model_copy(update={"each": dict(each)}) if step.searches else step for step in self.steps)
        return self.model_copy(update={"steps": tuple(steps)})

    def profiled(self) -> list[dict[str, Any]]:
        """What decides what a profile of this recipe holds: the steps that are left open, as they are set."""
        return [
            step.model_dump(mode="json")
            for step in self.steps
            if step.is_open or step.spends_bytes or step.searching or step.multiplies or step.profiled_after
        ]

    def open_fields(self) -> list[str]:
        """What a target fills, by its place: shares and bits that are "auto"."""
        fields = {"keep": "is_open", "bits": "spends_bytes"}
        return [
            f"steps[{index}].{field}"
            for index, step in enumerate(self.steps)
            for field, auto in fields.items()
            if getattr(step, auto)
        ]

    def dials(self) -> tuple[str, ...]:
        """The targets that may fill them."""
        found = (*SIZES, *TIMES) if self.narrower else SIZES
        return (*found, "min_retention") if self.narrower or self.spender else found

    @property
    def products(self) -> Products | Literal["auto"]:
        """What its linears multiply in; fp32 where no step says."""
        return next((step.products for step in self.steps if hasattr(step, "products")), "fp32")

    @property
    def trained(self) -> bool:
        """Whether any of its steps trains."""
        return any(step.trains for step in self.steps)

    def goes_on_from(self, before: Recipe) -> bool:
        """Whether a student of `before`, as its training left it, may be narrowed and trained on to be one of this.

        So it is where heads and neurons go, the training comes next and has a share for that (`continued`), and no
        unit stays that `before` has not.
        """
        if min(len(self.steps), len(before.steps)) < 2 or not getattr(self.steps[1], "continued", 0.0):
            return False
        return self.steps[0].narrows(before.steps[0]) and self.steps[1] == before.steps[1]

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """What all steps, in order, make of stored tensors: their size laws. Tables that are no parameters stay."""
        found, tables = list(tensors), dict[str, Tensor]()
        for step in self.steps:
            after = step.stored(found)
            found = [tensor for tensor in after if tensor.counted]
            # The first of a name stays: tokens that share rows are told which by the table that they have already.
            tables = {tensor.name: tensor for tensor in after if not tensor.counted} | tables
        return [*found, *tables.values()]

    def with_units(self, each: Mapping[str, int]) -> Recipe:
        """The recipe in which so many heads or neurons stay, by the linear that reads them."""
        filled = {"keep": 1.0, "each": dict(each)}
        steps = (step.model_copy(update=filled) if step.reads_units else step for step in self.steps)
        return self.model_copy(update={"steps": tuple(steps)})

    def with_auto(self, **values: Any) -> Recipe:
        """The recipe in which these fields are so wherever they were "auto"."""

        def filled(step: Method) -> Method:
            found = {name: value for name, value in values.items() if getattr(step, name, None) == "auto"}
            return step.model_copy(update=found) if found else step

        return self.model_copy(update={"steps": tuple(map(filled, self.steps))})

    def with_bits(self, each: Mapping[str, float]) -> Recipe:
        """The recipe in which the step whose bits are "auto" gives each matrix so many."""
        steps = (step.model_copy(update={"bits": 8, "each": dict(each)}) if step.spends_bytes else step
                 for step in self.steps)  # fmt: skip
        return self.model_copy(update={"steps": tuple(steps)})

    def aim(self, target: Target) -> str | None:
        """The dial that a target of retention leaves to the job, to be turned as far as retention allows; or none."""
        if target.min_retention is None:
            return None
        if self.spender is not None:
            return None if target.sizes() else "bytes_ratio"
        return "latency_ratio" if self.narrower and not target.times() else None

    def is_paced(self, target: Target) -> bool:
        """Whether what units are worth decides how many heads and neurons stay: in milliseconds, or beside bits."""
        return bool(self.narrower and (target.times() or self.spender or self.aim(target)))

    def open_for(self, target: Target) -> bool:
        """Whether the job decides what is "auto" here: by what the model can spare, not by a dial."""
        return self.spender is not None or self.searcher is not None or self.is_paced(target)

    @property
    def spender(self) -> Method | None:
        """The step whose bits are "auto"; there is one at most, for a recipe quantises once."""
        return next((step for step in self.steps if step.spends_bytes), None)

    @model_validator(mode="after")
    def _in_order(self) -> Recipe:
        """Each size law counts on what came before: shapes first, then factors, then masks, each method once."""
        before: list[Method] = []
        acting: Method | None = None  # what the next training will change
        for index, step in enumerate(self.steps):
            if (step.reads_units or (step.searching and not step.follows)) and any(
                earlier.trains for earlier in self.steps[:index]
            ):
                raise ValueError(f"steps.{index} ({step.name()}) cannot come after a training: it judges the teacher")
            if step.trains:
                self._check_training(index, before)
                acting = None
                continue
            zeros = next((one for one in before if one.sparse or one.family() == "prune"), None)
            if step.multiplies and zeros:
                raise ValueError(
                    f"steps.{index} ({step.name()}) cannot follow {zeros.name()}: "
                    "it multiplies with every entry, so that zeros would save nothing"
                )
            if acting and step.family() == "quantize":
                named = f"steps.{index} ({step.name()}) cannot follow {acting.name()}"
                raise ValueError(f"{named}, which acts during the next training: put a training between the two")
            if (wrong := step.objection(before)) is not None:
                raise ValueError(f"steps.{index} ({step.name()}) {wrong}")
            acting = step if step.acts_in_training() else acting
            for earlier in before:
                if earlier.name() == step.name() or FAMILIES.index(earlier.family()) > FAMILIES.index(step.family()):
                    order = " > ".join(FAMILIES[:-1])
                    raise ValueError(
                        f"steps.{index} ({step.name()}) cannot come after {earlier.name()}: each once, in order {order}"
                    )
                if earlier.family() == step.family() in ONCE and step.follows != earlier.name():
                    named = f"steps.{index} ({step.name()}) cannot follow {earlier.name()}"
                    raise ValueError(f"{named}: one step of {step.family()} a recipe")
                if earlier.sparse and step.family() == "prune":
                    raise ValueError(
                        f"steps.{index} ({step.name()}) cannot follow {earlier.name()}, which prunes itself"
                    )
            before.append(step)
        return self

    def _check_training(self, index: int, before: Sequence[Method]) -> None:
        """Whether what the training at this place follows is there. before: the steps before it that do not train."""
        step, trained = self.steps[index], any(one.trains for one in self.steps[:index])
        alone = sum(one.trains for one in self.steps) == 1
        if getattr(step, "continued", 0) and not (alone and index == 1 and before and before[0].reads_units):
            raise ValueError(
                f"steps.{index}.continued ({step.name()}) needs the step before it to be the first and to "
                "remove heads and neurons, and no other training: only such a student goes on from another"
            )
        if getattr(step, "teacher", "original") == "previous" and not trained:
            raise ValueError(
                f'steps.{index}.teacher ({step.name()}) is "previous", and there is no training before it: '
                'legal here is "original"'
            )
        by_head = getattr(step, "attention", 0) and not getattr(step, "attention_outputs", False)
        if by_head and any(one.reads_units for one in before):
            raise ValueError(
                f"steps.{index} ({step.name()}) follows attention head by head: leave it out after "
                f"{next(one.name() for one in before if one.reads_units)}, which removes heads, or follow its "
                "outputs: attention_outputs true"
            )

    @model_validator(mode="after")
    def _training_follows(self) -> Recipe:
        for index, step in enumerate(self.steps):
            if step.acts_in_training() and not any(later.trains for later in self.steps[index + 1 :]):
                trainers = ", ".join(name for name, method in METHODS.items() if method.trains)
                raise ValueError(
                    f"steps.{index} ({step.name()}) acts during training: add one of [{trainers}] after it"
                )
        return self


class Target(Closed):
    """What the result must reach. Ratios are teacher / student and above 1. Several may be given."""

    parameter_ratio: Ratio | None = Field(
        None, description="Teacher's parameters / student's non-zero stored parameters, embedding included."
    )
    bytes_ratio: Ratio | None = Field(
        None, description="4 bytes x teacher's parameters / bytes of the delivered model.onnx."
    )
    latency_ratio: Ratio | None = Field(
        None, description="Teacher's / student's median ms: batch 1 x 128 tokens, one thread, ONNX Runtime."
    )
    max_bytes: Count | None = Field(None, description="Largest model.onnx, in bytes.")
    max_nonzero: Count | None = Field(None, description="Most non-zero stored parameters.")
    max_latency_ms: Milliseconds | None = Field(
        None, description="Largest median ms: batch 1 x 128 tokens, one thread, ONNX Runtime."
    )
    min_retention: float | None = Field(
        None, gt=0, le=1, description="Least student metric / teacher metric on the evaluation split."
    )
    max_minutes: float | None = Field(
        None, gt=0, le=10_080, description="Training budget; when it ends, the best so far is exported."
    )

    def given(self) -> dict[str, float]:
        """The targets that are set, by name."""
        return {name: value for name, value in self.model_dump().items() if value is not None}

    def sizes(self) -> dict[str, float]:
        """Those of them that are about size."""
        return {name: value for name, value in self.given().items() if name in SIZES}

    def times(self) -> dict[str, float]:
        """Those of them that are about milliseconds."""
        return {name: value for name, value in self.given().items() if name in TIMES}

    def over(self, base: Target) -> Target:
        """`base` with the constraints of this target in place of those of the same name.

        A size given here replaces every size of the base, a time every time: each is one dial.
        """
        return Target.model_validate({**base.without(self.given()).given(), **self.given()})

    def without(self, names: Iterable[str]) -> Target:
        """This target without what is on the same dial as one of `names`."""
        turned = {name for dial in (SIZES, TIMES) if not set(dial).isdisjoint(names) for name in dial}
        return Target.model_validate({name: value for name, value in self.given().items() if name not in turned})


TIMES = ("latency_ratio", "max_latency_ms")
SIZES = ("parameter_ratio", "max_nonzero", "bytes_ratio", "max_bytes")


class Ladder(Closed):
    """Several values of one target: one job, one point for each, in rising order of compression."""

    parameter_ratio: tuple[Ratio, ...] | None = Field(None, min_length=1, max_length=16)
    bytes_ratio: tuple[Ratio, ...] | None = Field(None, min_length=1, max_length=16)
    latency_ratio: tuple[Ratio, ...] | None = Field(None, min_length=1, max_length=16)
    max_bytes: tuple[Count, ...] | None = Field(None, min_length=1, max_length=16)
    max_nonzero: tuple[Count, ...] | None = Field(None, min_length=1, max_length=16)
    max_latency_ms: tuple[Milliseconds, ...] | None = Field(None, min_length=1, max_length=16)

    @model_validator(mode="after")
    def _one_axis(self) -> Ladder:
        given = self.given()
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given: a ladder has one axis")
        for name, values in given.items():
            falls = name.startswith("max_")
            if list(values) != sorted(set(values), reverse=falls):
                raise ValueError(f"{name} must {'fall' if falls else 'rise'}, each value once")
        return self

    def given(self) -> dict[str, tuple[float, ...]]:
        """The axis that is set, and its values."""
        return {name: tuple(values) for name, values in self.model_dump().items() if values is not None}

    def targets(self, target: Target) -> list[Target]:
        """One target for each point, its value in place of the one of that name; `target` itself where it is empty."""
        steps = [{name: value} for name, values in self.given().items() for value in values]
        return [Target.model_validate({**target.given(), **step}) for step in steps] or [target]


class Preset(Closed):
    """A recipe with a name, a source, and the target that it aims at when the user names none."""

    name: str
    title: str
    source: str
    recipe: Recipe
    target: Target = Target()

    def asked(self, own: Target, ladder: Ladder) -> Target:
        """What a job of this preset aims at: the user's constraints in place of the preset's.

        The retention that the preset finds a size or a time for goes where that is given: a fixed size is to retain as
        much as it can, and whoever asks for both names both.
        """
        found = own.over(self.target.without(ladder.given()))
        aims = self.recipe.aim(self.target) and not self.recipe.aim(ladder.targets(found)[0])
        if aims and own.min_retention is None:
            return found.model_copy(update={"min_retention": None})
        return found


def _load_presets(folder: Path) -> dict[str, Preset]:
    raw: dict[str, dict[str, Any]] = {
        path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.toml"))
    }
    presets = {}
    for name, own in raw.items():
        # `base` lets ladabert-1..4 differ from ladabert by one number instead of repeating its steps.
        fields = {**raw[own["base"]], **own} if "base" in own else dict(own)
        fields.pop("base", None)
        recipe = {"steps": fields.pop("steps"), "version": fields.pop("version", 1)}
        presets[name] = Preset.model_validate({"name": name, "recipe": recipe, **fields})
    return presets


PRESETS = _load_presets(Path(__file__).parent / "presets")
