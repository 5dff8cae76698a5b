"""What a job will take, before it runs: seconds and memory of the worker that measured the profile. Pure Python.

Nearly all of a job is training, and then passes over rows: the teacher's over the training rows, which are recorded,
and everybody's over `eval`. `core.costing` times both on the job's own text, a step at two widths and with rounded
weights; what a recipe takes is linear in the entries that its encoder multiplies with and in all that an optimizer
moves. A student that comes near enough before its steps are over (`distill.enough`) ends early: KL is taken to fall by
the same factor in each step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict

from core.data import select_count
from core.distill.distill import Distill
from core.method import Tensor

if TYPE_CHECKING:
    from core.recipe import Recipe

# Of exports, of processes that start and load a file, on the machine of bench/reference.json.
FIXED_S = 45.0
TIMED_TOKENS = 21 * (128 + 32 + 8 * 32 + 32 * 32 + 8 * 128)  # that the runs which measure latency read, of each model
STARTED = 0.25  # building a student, in units of measuring the curves that it is planned on


class Spent(NamedTuple):
    """Wall and CPU seconds (user + system); where the device is a GPU, wall seconds are its."""

    seconds: float
    cpu_s: float

    def times(self, count: float) -> Spent:
        return Spent(self.seconds * count, self.cpu_s * count)


class Share(NamedTuple):
    """Of the teacher's entries that a student has: those that its encoder multiplies with, and all."""

    multiplied: float
    stored: float


class Timed(BaseModel):
    """What of a training decides how long its steps take."""

    model_config = ConfigDict(frozen=True)

    batch_size: int
    max_length: int
    max_rows: int | None
    augment_to: int
    live: bool  # the teacher runs beside the student
    rounded: bool  # weights are on grids


class Training(NamedTuple):
    """The training of a recipe, and whether weights are on grids in it."""

    step: Distill
    rounded: bool

    @property
    def timed(self) -> Timed:
        one = self.step
        named = {name: getattr(one, name) for name in ("batch_size", "max_length", "max_rows", "augment_to")}
        return Timed(**named, live=one.live, rounded=self.rounded)


class Costs(BaseModel):
    """Of one model on one text and machine, for one kind of training.

    token: the teacher's forward pass, of one token of a batch; cpu_token: on the CPU, where files are verified. step:
    one training step of a student as wide as the teacher; narrow: of one with `share` of the entries; update: the part
    of `step` that moves the weights; rounded: what it takes more where weights are on grids. tokens: of a training row,
    as padded and cut; whole: of one as it is.
    profile: what it took to measure the curves. memory_bytes: the most that the process held while all this was
    measured, and the teacher's recorded answers, which are mapped; device_bytes on a GPU.
    """

    model_config = ConfigDict(frozen=True)

    machine: str
    training: Timed
    tokens: float
    whole: float
    token: Spent
    cpu_token: Spent
    step: Spent
    narrow: Spent
    update: Spent
    share: Share
    rounded: Spent = Spent(0.0, 0.0)
    profile: Spent = Spent(0.0, 0.0)
    memory_bytes: int = 0
    device_bytes: int = 0

    def step_of(self, share: Share) -> Spent:
        """One training step of a student with such a share of the teacher's entries."""
        found = []
        for full, narrow, update, more in zip(self.step, self.narrow, self.update, self.rounded, strict=True):
            slope = (full - narrow - update * (1 - self.share.stored)) / (1 - self.share.multiplied)
            slope = min(max(slope, 0.0), max(full - update, 0.0))
            found.append(full - slope * (1 - share.multiplied) - (update + more) * (1 - share.stored) + more)
        return Spent(*found)

    def job(
        self,
        training: Training,
        rows: Mapping[str, int],
        share: Share,
        *,
        kl: float | None,
        learnt: float,
        minutes: float | None = None,
    ) -> Spent:
        """A job of one point whose profile is stored and whose first plan is kept.

        Args:
            rows: of each role.
            share: of the teacher's entries that the student has.
            kl: of the untrained student; None where nobody knows.
            learnt: what training leaves of it.
            minutes: that training may take.
        """
        step, done = training.step, _done(training.step, kl, learnt)
        select = rows.get("select") or select_count(rows["train"])
        train = rows["train"] + rows.get("unlabelled", 0) - (0 if rows.get("select") else select)
        read = max(min(train, step.max_rows or train), step.augment_to)
        looks = done / step.look_every if step.patience or step.enough else 0.0
        learning = _sum(
            self.step_of(share).times(done * step.steps(-(-read // step.batch_size))),
            self.token.times(read * self.tokens + share.multiplied * select * looks * self.whole),
        )
        if minutes is not None and learning.seconds > 60 * minutes:
            learning = learning.times(60 * minutes / learning.seconds)
        passes = (2 + share.multiplied) * rows["eval"] * self.whole + (1 + share.multiplied) * TIMED_TOKENS
        return _sum(
            Spent(FIXED_S, FIXED_S),
            self.profile.times(STARTED),
            learning,
            self.token.times((1 + share.multiplied) * select * self.whole),
            self.cpu_token.times(passes),
        )


def _sum(*parts: Spent) -> Spent:
    return Spent(*map(sum, zip(*parts, strict=True)))


def _done(training: Distill, kl: float | None, learnt: float) -> float:
    """The share of its steps after which a student is near enough."""
    if not training.enough or kl is None:
        return 1.0
    return min(1.0, max(0.0, math.log(max(kl, training.enough) / training.enough) / -math.log(learnt)))


def training_of(recipe: Recipe) -> Training | None:
    """The training of a recipe; None where it has none, or more than one, which nobody times."""
    places = [place for place, step in enumerate(recipe.steps) if isinstance(step, Distill)]
    if len(places) != 1:
        return None
    rounded = any(step.family() == "quantize" for step in recipe.steps[: places[0]])
    return Training(recipe.steps[places[0]], rounded)  # type: ignore[arg-type]


def share_of(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Share:
    """By the tensors of both. An encoder multiplies with all entries of its linears or their factors, zeros too."""

    def entries(tensors: Sequence[Tensor]) -> tuple[int, int]:
        linear = sum(tensor.entries for tensor in tensors if tensor.kind == "linear")
        return linear, sum(tensor.entries for tensor in tensors if tensor.counted)

    return Share(*(ours / theirs for ours, theirs in zip(entries(student), entries(teacher), strict=True)))
