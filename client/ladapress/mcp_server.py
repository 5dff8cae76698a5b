"""`ladapress mcp`: the service as tools for a language model (Model Context Protocol), by the `mcp` package.

It runs where its user is and talks to the service as any client does, with the user's key. No tool reads a file of the
user's: models and data are uploaded by `ladapress compress` or by hand, and named by id here. Answers are short, since
whoever reads them pays by the word; a refusal is an error that names the problem's code and the field at fault.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

from anyio.to_thread import run_sync
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from ladapress import types
from ladapress.client import Client
from ladapress.errors import LadapressError, of_job, sentence

Answer = TypeVar("Answer")
LOOK = ToolAnnotations(read_only_hint=True, open_world_hint=False)
MAKE = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
END = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)
INSTRUCTIONS = (
    "Compresses BERT-like encoders. list_uploads gives ids of models and datasets; list_presets the recipes; plan says "
    "what a job would give, and may have to be asked again; submit starts one; status follows it; compare sets the "
    "results of jobs side by side. Ratios are teacher / student: above 1 is smaller or faster."
)

JobId = Annotated[str, Field(description="job_...")]
ModelId = Annotated[str, Field(description="Id of a model that is ready, as list_uploads gives it.")]
TrainId = Annotated[str, Field(description="Id of the training rows.")]
EvalId = Annotated[str, Field(description="Id of the rows that measure the result.")]
Preset = Annotated[str | None, Field(description="A name of list_presets; not with a recipe.")]
Recipe = Annotated[dict[str, Any] | None, Field(description='{"steps": [...]}, each a step of list_methods.')]
Target = Annotated[types.Target | None, Field(description="What the result must reach; else the preset's own.")]
Task = Annotated[str | None, Field(description="What the model is for; classification where it is not given.")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Named(BaseModel):
    """Something that can be used by its name."""

    name: str
    about: str


class Upload(BaseModel):
    """Something that can be used by its id. Bytes."""

    id: str
    name: str | None
    status: str
    size_bytes: int


class Uploads(BaseModel):
    models: list[Upload]
    datasets: list[Upload]


class Outcome(BaseModel):
    """One delivered model: `ladapress download ARTIFACT_ID` fetches it."""

    job_id: str
    artifact_id: str
    parameter_ratio: float
    bytes_ratio: float
    latency_ratio: float
    metric: str
    teacher: float
    student: float
    retention: float
    target_met: bool


class Status(BaseModel):
    """A job as it is now. `error` begins with the problem's code."""

    job_id: str
    status: str
    stage: str | None
    fraction: float
    eta_s: float | None
    error: str | None
    results: list[Outcome]


class Expected(BaseModel):
    """What a job would give; null where nothing measured says so."""

    parameter_ratio: float
    bytes_ratio: float
    latency_ratio: float | None
    retention: float | None
    retention_low: float | None
    seconds: float | None
    target_met: bool | None


class Plan(BaseModel):
    """`status` is "done", or says what is being found out: then ask again."""

    status: str
    expected: list[Expected]


class Comparison(BaseModel):
    """Best retention first, and the jobs that have no result."""

    results: list[Outcome]
    without_result: list[Status]


def serve(client: Client) -> MCPServer:
    """The server; `run` starts it on standard input and output."""
    app = MCPServer("ladapress", instructions=INSTRUCTIONS, version=version("ladapress"), log_level="WARNING")

    def tool(annotations: ToolAnnotations) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return lambda function: app.tool(annotations=annotations)(_told(function))

    @tool(LOOK)
    def list_presets() -> list[Named]:
        """Recipes with names, each with the targets that it is made for."""
        found = client.presets().data
        return [Named(name=one.name, about=_about(one.model_dump(mode="json"))) for one in found]

    @tool(LOOK)
    def list_methods(name: Annotated[str | None, Field(description="Only this one, with its schema.")] = None) -> str:
        """What a step of a recipe may be."""
        found = {one.name: one for one in client.methods().data}
        if name is None:
            return "\n".join(f"{one.name}: {one.card.strip().splitlines()[0]}" for one in found.values())
        if name not in found:
            raise ToolError(f"not_found at /name: no method {name!r}; legal: {', '.join(found)}")
        return f"{found[name].card}\n\n{found[name].step_schema}"

    @tool(LOOK)
    def list_uploads() -> Uploads:
        """Models and datasets of the project, newest first, at most twenty of each."""
        models = [
            Upload(id=one.id, name=one.name, status=one.status, size_bytes=one.size_bytes)
            for one in client.models.list().data
        ]
        datasets = [
            Upload(id=one.id, name=one.name, status="ready", size_bytes=one.size_bytes)
            for one in client.datasets.list().data
        ]
        return Uploads(models=models, datasets=datasets)

    @tool(LOOK)
    def list_jobs(limit: Annotated[int, Field(ge=1, le=100)] = 10) -> list[Status]:
        """Jobs of the project, newest first."""
        return [_status(job) for job in client.jobs.list(limit=limit).data]

    @tool(MAKE)
    def plan(
        model: ModelId,
        train: TrainId,
        eval: EvalId,  # noqa: A002 - the interface's own word
        preset: Preset = None,
        recipe: Recipe = None,
        target: Target = None,
        task: Task = None,
        seed: Seed = 0,
    ) -> Plan:
        """Say what a job would give, without making it. The first plan of a model measures it, which takes a while."""
        found = client.plans.ask(_request(model, train, eval, preset, recipe, target, task, seed))
        points = [point.model_dump(include=set(Expected.model_fields)) for point in found.points]
        return Plan(status=found.status, expected=[Expected.model_validate(point) for point in points])

    @tool(MAKE)
    def submit(
        model: ModelId,
        train: TrainId,
        eval: EvalId,  # noqa: A002 - the interface's own word
        preset: Preset = None,
        recipe: Recipe = None,
        target: Target = None,
        task: Task = None,
        seed: Seed = 0,
        name: Annotated[str | None, Field(description="For people, in lists.")] = None,
    ) -> Status:
        """Start a compression. It runs for minutes to hours; ask status now and then."""
        asked = _request(model, train, eval, preset, recipe, target, task, seed)
        return _status(client.jobs.submit({**asked, "name": name}))

    @tool(LOOK)
    def status(job_id: JobId) -> Status:
        """A job as it is now, with its results or what it failed of."""
        return _status(client.jobs.get(job_id))

    @tool(LOOK)
    def compare(job_ids: Annotated[list[str], Field(min_length=1, max_length=20)]) -> Comparison:
        """The results of several jobs side by side, best retention first."""
        found = [_status(client.jobs.get(job_id)) for job_id in job_ids]
        results = [one for each in found for one in each.results]
        return Comparison(
            results=sorted(results, key=lambda one: one.retention, reverse=True),
            without_result=[each for each in found if not each.results],
        )

    @tool(END)
    def cancel(job_id: JobId) -> Status:
        """End a job; nothing of it is delivered. Again changes nothing."""
        return _status(client.jobs.cancel(job_id))

    return app


def _told(function: Callable[..., Answer]) -> Callable[..., Any]:
    """The function in a thread, so that others are answered meanwhile; a refusal becomes an error that says why."""

    @functools.wraps(function)
    async def called(*args: Any, **fields: Any) -> Answer:
        try:
            return await run_sync(functools.partial(function, *args, **fields))
        except LadapressError as error:
            where = f" at {error.problem.param}" if error.problem.param else ""
            raise ToolError(f"{error.code}{where}: {sentence(error.problem)}") from None

    return called


def _request(
    model: str, train: str, evaluation: str, preset: str | None, recipe: dict[str, Any] | None,
    target: types.Target | None, task: str | None, seed: int,
) -> dict[str, Any]:  # fmt: skip
    given = None if target is None else target.model_dump(mode="json", exclude_none=True)
    data = {"train": train, "eval": evaluation}
    return {
        "model": model, "data": data, "preset": preset, "recipe": recipe, "target": given, "task": task, "seed": seed,
    }  # fmt: skip


def _status(job: types.Job) -> Status:
    problem = of_job(job)
    points = [point.model_dump(include=set(Outcome.model_fields)) for point in job.points]
    return Status(
        job_id=job.id,
        status=job.status,
        stage=job.stage,
        fraction=job.progress.fraction,
        eta_s=job.progress.eta_s,
        error=None if problem is None else f"{problem.code}: {sentence(problem)[:1_000]}",
        results=[Outcome.model_validate({**point, "job_id": job.id}) for point in points],
    )


def _about(preset: dict[str, Any]) -> str:
    targets = {name: value for name, value in (preset.get("target") or {}).items() if value is not None}
    steps = [step["method"] for step in preset["recipe"]["steps"]]
    reach = ", ".join(f"{name} {value:g}" for name, value in targets.items()) or "no target"
    return f"{reach}; {' + '.join(steps)}"
