"""One point of a job: its student, built step by step, and built anew while the target may be better met so.

Where a target of retention leaves a dial free, `core.search` corrects the plan after each training. The best so far is
kept, in memory and in checkpoints: a job whose time is over, or that dies and comes back, delivers it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace

import torch

from core.batches import FLOAT
from core.checkpoint import BuiltAnew, Keeper, Place, put, tensors_of
from core.hasten import Planned
from core.metrics import agreement
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
class Found:
    """The student of one point, the recipe that made it, and every try on the way."""

    build: Build
    recipe: Recipe
    tries: tuple[Try, ...]


@dataclass(frozen=True)
class Seeker:
    """Finds the students of all points of one job."""

    profiler: Profiler
    judge: Judge
    meter: Meter
    keeper: Keeper

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
        best: Build | None = None
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
            build, logits = student(
                self.shared, _recipe(plan), self.meter, left, self.keeper, Place(number, len(search.tries), 0, 0)
            )
            took, search.plan = max(took, time.monotonic() - begun), None
            promise = self.judge.of(logits)
            if promise is None:
                return Found(build, _recipe(plan), ())
            kept = is_kept(promise.retention, promise.sd, wanted)
            search.tries.append(Try(**plan.model_dump(), **asdict(promise), kept=kept))
            if best_of(search.tries) == len(search.tries) - 1:
                best = build
                search.best = tensors_of(build) if aimed else {}
        for _ in range(TRIES - len(search.tries) if aimed else 0):
            self.meter.skip_point()
        found = search.tries[best_of(search.tries)]
        if not found.kept:
            self.meter.warning("retention_not_promised", f"point {number}: select rows do not bear {wanted:g} out")
        return Found(best or self._built(_recipe(found), number), _recipe(found), tuple(search.tries))

    def _again(self, tries: list[Try], recipe: Recipe, target: Target) -> Plan | None:
        """The plan of another try, if it is worth one."""
        loss = None if target.min_retention is None else next_loss(tries, target.min_retention, self.profiler.known)
        if loss is None:
            return None
        found = _plan(self.profiler.resolve(recipe, target, loss))
        return None if any(found.recipe == one.recipe for one in tries) else found

    def _built(self, recipe: Recipe, number: int) -> Build:
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
            return student(self.shared, recipe, self.meter, None, self.keeper, Place(number, TRIES, 0, 0))[0]
        return build


def _plan(planned: Planned) -> Plan:
    return Plan(recipe=planned.recipe.model_dump(mode="json"), planned_loss=planned.loss)


def _recipe(plan: Plan) -> Recipe:
    return Recipe.model_validate(plan.recipe)


def student(
    shared: Shared, recipe: Recipe, meter: Meter, left_s: float | None, keeper: Keeper, place: Place
) -> tuple[Build, FLOAT]:
    """A finished student and its logits on `select`; from its beginning where a checkpoint does not fit what is built
    again."""
    while True:
        torch.manual_seed(shared.seed)  # a point does not depend on those before it
        build = shared.student()
        try:
            logits = _run(build, recipe, meter, left_s, keeper, place)
        except BuiltAnew:
            meter.warning("began_anew", f"point {place.point}: its checkpoint does not fit what the recipe builds now")
        else:
            return build, shared.on_select(build.model) if logits is None else logits


def _run(
    build: Build, recipe: Recipe, meter: Meter, left_s: float | None, keeper: Keeper, place: Place
) -> FLOAT | None:
    """Compile and train every step; after each, how far the student still predicts what its teacher does."""
    shared, behind = build.shared, False  # behind: trained weights are still to come from a checkpoint
    ends = None if left_s is None else time.monotonic() + left_s
    left, logits = sum(step.trains for step in recipe.steps), None
    for number, step in enumerate(recipe.steps):
        with meter.stage(STAGE_OF[step.family()]):
            for index, phase in enumerate(step.compile(build)):
                if behind := keeper.enter(replace(place, step=number, phase=index)):
                    continue  # an earlier attempt ended this phase; what it did is in the state of a later one
                # Each training that is left has the same share, so that the last one is not left without any.
                budget = None if ends is None else max(1e-3, (ends - time.monotonic()) / max(1, left))
                train(phase, meter, device=build.device, budget_s=budget, keeper=keeper, build=build)
            left -= step.trains
            changed = (step.trains or not step.acts_in_training()) and not behind
            logits = shared.on_select(build.model) if changed else None
        if logits is not None:
            meter.agreement(agreement(logits, shared.followed()))
    if behind:  # the checkpoint was of a phase that is no longer there
        keeper.forget()
        raise BuiltAnew
    return logits
