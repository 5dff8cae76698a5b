"""What can be known before a job: `client.plans` and `client.inspections`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ladapress import events, types
from ladapress.errors import LadapressError, of_job
from ladapress.modes import Mode, operation
from ladapress.resource import Resource
from ladapress.transport import given, place


class Plans(Resource[Mode]):
    """What a job would give."""

    @operation
    async def ask(self, request: Mapping[str, Any]) -> types.Plan:
        """The plan as far as it is known: where its status is not "done", ask again.

        Args:
            request: as `types.PlanRequest`; fields that are None are left out.
        """
        return await self._ask(types.Plan, "POST", place("plans"), json=given(request))

    @operation
    async def make(self, request: Mapping[str, Any], *, pause_s: float = 0.5) -> types.Plan:
        """`ask` until the plan is done.

        Raises:
            LadapressError: the refusal, or a dry run that did not succeed.
        """
        while (plan := await Plans.ask(self, request)).status != "done":
            while plan.job_id and (job := await self._job(plan.job_id)).status != "succeeded":
                if job.status in events.TERMINAL:
                    detail = f"{job.id} is {job.status} and left no profile"
                    raise LadapressError(of_job(job) or LadapressError.local("not_measured", detail).problem)
                await self._transport.port.sleep(pause_s)
            await self._transport.port.sleep(pause_s)
        return plan

    async def _job(self, job_id: str) -> types.Job:
        return await self._ask(types.Job, "GET", place("jobs", job_id))


class Inspections(Resource[Mode]):
    """Whether a model may be compressed with rows."""

    @operation
    async def create(self, request: Mapping[str, Any]) -> types.Inspection:
        """The verdict, or an inspection that is under way: ask `get` for it.

        Args:
            request: as `types.InspectionRequest`; fields that are None are left out.
        """
        return await self._ask(types.Inspection, "POST", place("inspections"), json=given(request))

    @operation
    async def get(self, inspection_id: str) -> types.Inspection:
        """One inspection as it is now."""
        return await self._ask(types.Inspection, "GET", place("inspections", inspection_id))

    @operation
    async def make(self, request: Mapping[str, Any], *, pause_s: float = 0.25) -> types.Inspection:
        """`create`, and `get` until the verdict is there, whatever it is."""
        found = await Inspections.create(self, request)
        while found.status != "done":
            await self._transport.port.sleep(pause_s)
            found = await Inspections.get(self, found.id)
        return found
