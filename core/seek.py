"""One point of a job: its student, built step by step, and built anew while the target may be better met so.

Where a target of retention leaves a dial free, `core.search` corrects the plan after each training. The best so far is
kept, in memory and in checkpoints: a job whose time is over, or that dies and comes back, delivers it. A point of a
ladder may go on from the trained student of the point before (`Recipe.goes_on_from`).
"""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass, replace

import torch

from core.batches import FLOAT
from core.checkpoint import BuiltAnew, Keeper, Place, put, tensors_of
from core.followed import kept
from core.hasten import Planned
from core.phase import Build
from core.progress import Meter
from core.promise import Judge
from core.recipe import Recipe, Target
from core.report import Plan, Try
from core.resolve import Profiler
from core.search import TRIES, best_of, is_kept, next_loss
from core.shared import Shared
from core.train import train

STAGE_OF = {
    "structure": "prune",
    "factorize": "factorize",
    "prune": "prune",
    "quantize": "quantize",
    "distill": "distill",
}


@dataclass(frozen=True)
class Trained:
    """A student after its training, not yet rounded by steps behind it."""

    recipe: Recipe
    build: Build


@dataclass(frozen=True)
class Student:
    """A finished student, its logits on `select`, (rows, classes), and what the next point may go on from."""

    build: Build
    recipe: Recipe
    logits: FLOAT
    trained: Trained | None = None  # None where it may not, or no step was made


@dataclass(frozen=True)
class Found:
    """The student of one point, the recipe that made it, and every try on the way."""

    build: Build
    recipe: Recipe
    tries: tuple[Try, ...]


@dataclass
class Seeker:
    """Finds the students of all points of one job. `before`: the student of the point before the next one."""

    profiler: Profiler
    judge: Judge
    meter: Meter
    keeper: Keeper
    before: Trained | None = None

    @property
    def shared(self) -> Shared:
        return self.profiler.shared

    def find(self, number: int, recipe: Recipe, target: Target, planned: Planned, left_s: float | None) -> Found:
        """The student of point `number`.

        Args:
            recipe: as it was asked for, "auto" in place.
            planned: the plan of its first try.
            left_s: wall seconds. The first try may take them all; another is begun only where the last would fit.
        """
        search, aimed, wanted = self.keeper.search, recipe.aim(target) is not None, target.min_retention
        ends = None if left_s is None else time.monotonic() + left_s
        best: Student | None = None
        took, plan = 0.0, search.plan or _plan(planned)
        while True:
            if search.tries and search.plan is None:
                over = ends is not None and time.monotonic() + took > ends
                again = None if over or not aimed else self._again(search.tries, recipe, target)
                if again is None:
                    break
                plan = again
            search.plan, begun = plan, time.monotonic()
            left = None if ends is None else ends - begun
            # A search goes back and forth, and its tries may be of several attempts: each begins at the teacher.
            before = None if aimed else self.before
            place = Place(number, len(search.tries), 0, 0)
            made = student(self.shared, _recipe(plan), self.meter, left, self.keeper, place, before)
            took, search.plan = max(took, time.monotonic() - begun), None
            promise = self.judge.of(made.logits)
            if promise is None:
                return self._found(made, ())
            kept = is_kept(promise.retention, promise.sd, wanted)
            search.tries.append(Try(**plan.model_dump(), **asdict(promise), kept=kept))
            if best_of(search.tries) == len(search.tries) - 1:
                best = made
                search.best = tensors_of(made.build) if aimed else {}
        for _ in range(TRIES - len(search.tries) if aimed else 0):
            self.meter.skip_point()
        found = search.tries[best_of(search.tries)]
        if not found.kept:
            self.meter.warning("retention_not_promised", f"point {number}: select rows do not bear {wanted:g} out")
        return self._found(best or self._built(_recipe(found), number), tuple(search.tries))

    def _found(self, made: Student, tries: tuple[Try, ...]) -> Found:
        self.before = made.trained
        return Found(made.build, made.recipe, tries)

    def _again(self, tries: list[Try], recipe: Recipe, target: Target) -> Plan | None:
        """The plan of another try, if it is worth one."""
        loss = None if target.min_retention is None else next_loss(tries, target.min_retention, self.profiler.known)
        if loss is None:
            return None
        found = _plan(self.profiler.resolve(recipe, target, loss))
        return None if any(found.recipe == one.recipe for one in tries) else found

    def _built(self, recipe: Recipe, number: int) -> Student:
        """The best student so far, of which an earlier attempt left the weights; trained anew where they do not fit."""
        torch.manual_seed(self.shared.seed)
        build = self.shared.student()
        for step in recipe.steps:
            for _ in step.compile(build):
                pass
        try:
            put(self.keeper.search.best, build)
        except BuiltAnew:
            self.keeper.forget()
            return student(self.shared, recipe, self.meter, None, self.keeper, Place(number, TRIES, 0, 0))
        return Student(build, recipe, self.shared.on_select(build.model))


def _plan(planned: Planned) -> Plan:
    return Plan(recipe=planned.recipe.model_dump(mode="json"), planned_loss=planned.loss)


def _recipe(plan: Plan) -> Recipe:
    return Recipe.model_validate(plan.recipe)


def student(
    shared: Shared,
    recipe: Recipe,
    meter: Meter,
    left_s: float | None,
    keeper: Keeper,
    place: Place,
    before: Trained | None = None,
) -> Student:
    """A finished student; from its beginning where a checkpoint does not fit what is built again."""
    while True:
        torch.manual_seed(shared.seed)  # chance does not depend on the points before
        build = _begun(shared, recipe, keeper.continued(place), before)
        try:
            return _run(build, recipe, meter, left_s, keeper, place)
        except BuiltAnew:
            meter.warning("began_anew", f"point {place.point}: its checkpoint does not fit what the recipe builds now")


def _begun(shared: Shared, recipe: Recipe, kept: bool, before: Trained | None) -> Build:
    """The teacher, or what the point before made of it where this one may go on from there.

    kept: a checkpoint holds a student that went on so. The weights that it began with are gone with an earlier attempt,
    and needed no more.
    """
    build = shared.student()
    if kept:
        return replace(build, continued=True)
    if before is None or not recipe.goes_on_from(before.recipe):
        return build
    return replace(build, model=copy.deepcopy(before.build.model), left=dict(before.build.left), continued=True)


def _run(build: Build, recipe: Recipe, meter: Meter, left_s: float | None, keeper: Keeper, place: Place) -> Student:
    """Compile and train every step; after each, how far the student still predicts what its teacher does."""
    shared, behind = build.shared, False  # behind: trained weights are still to come from a checkpoint
    ends = None if left_s is None else time.monotonic() + left_s
    left, logits, trained = sum(step.trains for step in recipe.steps), None, None
    for number, step in enumerate(recipe.steps):
        with meter.stage(STAGE_OF[step.family()]):
            for index, phase in enumerate(step.compile(build)):
                if behind := keeper.enter(replace(place, step=number, phase=index)):
                    continue  # an earlier attempt ended this phase; what it did is in the state of a later one
                # Each training that is left has the same share, so that the last one is not left without any.
                budget = None if ends is None else max(1e-3, (ends - time.monotonic()) / max(1, left))
                steps = train(phase, meter, device=build.device, budget_s=budget, keeper=keeper, build=build)
                if (steps or build.continued) and getattr(step, "continued", False):
                    trained = Trained(recipe, replace(build, model=copy.deepcopy(build.model), left=dict(build.left)))
            left -= step.trains
            if step.trains and any(getattr(later, "teacher", "") == "previous" for later in recipe.steps[number + 1 :]):
                build.previous = kept(build.model)
            changed = (step.trains or not step.acts_in_training()) and not behind
            logits = shared.on_select(build.model) if changed else None
        if logits is not None:
            meter.agreement(shared.answers.agreement(logits, shared.followed()))
    if behind:  # the checkpoint was of a phase that is no longer there
        keeper.forget()
        raise BuiltAnew
    return Student(build, recipe, shared.on_select(build.model) if logits is None else logits, trained)
