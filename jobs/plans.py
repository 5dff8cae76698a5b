"""Plans: what a job would give, from the shape that an inspection found and the profile that a dry run measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from core.cost import training_of
from core.errors import CompressionError
from core.estimate import Estimate, estimate
from core.forecast import Forecast, forecast
from core.plan import ModelShape
from core.profile import Profile
from core.recipe import Ladder, Recipe, Target
from jobs import profiles
from jobs.inspections import refuse_bad, request_inspection
from jobs.problem import Problem, Refused
from jobs.requests import JobRequest, PlanRequest
from jobs.scope import Scope
from jobs.states import TERMINAL, State
from jobs.submit import refuse_unplannable, submit
from jobs.tables import Inspection, Job


@dataclass(frozen=True)
class Known:
    """All that a plan stands on. It takes milliseconds to seconds, so that nobody makes it in a transaction."""

    recipe: Recipe
    targets: tuple[Target, ...]
    shape: ModelShape
    profile: Profile
    rows: Mapping[str, int]

    def points(self) -> tuple[Forecast, ...]:
        """Raises Refused: recipe_invalid, target_impossible."""
        try:
            return tuple(forecast(self.recipe, each, self.shape, self.profile, self.rows) for each in self.targets)
        except CompressionError as error:
            raise Refused(Problem.from_error(error)) from None


@dataclass(frozen=True)
class Planned:
    """As far as it is known: the inspection first, then the dry run that makes the profile, then all."""

    inspection: Inspection
    making: Job | None = None
    known: Known | None = None
    rough: Estimate | None = None  # as soon as the inspection is done


def plan(s: Session, scope: Scope, request: PlanRequest) -> Planned:
    """What the plan of these inputs, recipe and targets stands on; starts whatever is still to be found out.

    Raises:
        Refused: not_found, model_not_ready; recipe_invalid, target_impossible, what the inspection found wrong, or why
            the profile could not be made.
    """
    _, recipe, target = request.resolved()
    ladder = request.ladder or Ladder()
    refuse_unplannable(recipe, target, ladder)
    inspection = request_inspection(s, scope, request.inspection())
    refuse_bad(inspection, recipe, target, ladder)
    if inspection.state != "done":
        return Planned(inspection)
    verdict = inspection.verdict or {}
    shape = ModelShape.model_validate(verdict["shape"])
    rough = _rough(recipe, shape, verdict)
    key = profiles.key_of(s, scope, request, recipe, target)
    found = profiles.find(s, scope.project_id, key)
    if key is not None and found is None:
        return Planned(inspection, making=_making(s, scope, request, key), rough=rough)
    known = Known(recipe, tuple(ladder.targets(target)), shape, found or Profile(), verdict["rows"])
    return Planned(inspection, known=known, rough=rough)


def _rough(recipe: Recipe, shape: ModelShape, verdict: Mapping[str, Any]) -> Estimate | None:
    training, lengths = training_of(recipe), (verdict.get("lengths") or {}).get("train")
    if training is None or lengths is None:
        return None
    return estimate(shape, verdict["rows"], lengths["mean"], training.step)


def _making(s: Session, scope: Scope, request: PlanRequest, key: str) -> Job:
    """The dry run under way, or a new one. A request holds its model's row, so that there are never two."""
    job = profiles.making(s, scope, key)
    if job is not None and job.state is State.FAILED and not (job.error or {}).get("retryable"):
        raise Refused(Problem.from_error(job.error or {}))
    if job is not None and job.state not in TERMINAL:
        return job
    return submit(s, scope, JobRequest.model_validate({**request.model_dump(mode="json"), "dry_run": True}))
