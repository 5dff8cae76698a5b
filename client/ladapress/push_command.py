"""`ladapress push`: an artifact to a registry that the service's operator has named."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ladapress import outcome, types
from ladapress.client import Client
from ladapress.compress import interruptible, usage
from ladapress.errors import LadapressError, Problem, sentence
from ladapress.options import AsJson


def push(
    what: Annotated[str, typer.Argument(metavar="JOB_OR_ARTIFACT", help="art_..., or job_... with a single result.")],
    registry: Annotated[str, typer.Option(metavar="NAME", help="A registry of the service; a wrong one lists them.")],
    to: Annotated[str, typer.Option(metavar="NAME", help="org/name of a repository, or name of a registered model.")],
    revision: Annotated[str | None, typer.Option(metavar="BRANCH", help="Of a repository. [default: main]")] = None,
    alias: Annotated[str | None, typer.Option(metavar="NAME", help="For the version of a registered model.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it has ended.")] = True,
    as_json: AsJson = False,
) -> None:
    """Send a finished artifact to a Hugging Face hub or an MLflow server, byte for byte.

    The service does it, and tries again while the registry does not answer; Ctrl-C leaves it to that. Pushed twice, an
    artifact is there once.
    """
    with Client() as client, interruptible():
        made = client.pushes.create(_artifact(client, what), registry=registry, to=to, revision=revision, alias=alias)
        if wait:
            _say(f"{made.id} to {registry}: {to}; it goes on without this command")
            made = client.pushes.wait(made.id, on_change=_tell)
    if as_json:
        print(outcome.line(made.model_dump(mode="json")), flush=True)
    elif made.result is not None:
        print(made.result.url)
    elif made.status != "failed":
        print(made.id)
    if made.status == "failed":
        raise typer.Exit(outcome.FAILED)


def _artifact(client: Client, what: str) -> str:
    if what.startswith("art_"):
        return what
    if not what.startswith("job_"):
        raise usage(f"{what}: must be the id of a job (job_...) or of an artifact (art_...)")
    points = client.jobs.get(what).points
    if len(points) != 1:
        listed = ", ".join(point.artifact_id for point in points) or "none"
        raise LadapressError.local("not_one_artifact", f"{what} has {len(points)} artifacts; name one: {listed}")
    return points[0].artifact_id


def _tell(push: types.Push) -> None:
    problem = None if push.error is None else sentence(Problem.model_validate(push.error.model_dump()))
    if push.status == "succeeded" and push.result is not None and push.result.unchanged:
        _say("the registry held it already; nothing was added")
    elif problem is not None:
        _say(f"{push.status} after attempt {push.attempt}: {problem}")


def _say(line: str) -> None:
    print(f"ladapress: {line}", file=sys.stderr, flush=True)
