"""`ladapress jobs ...`, and those of its commands that also stand alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ladapress import compress, outcome
from ladapress.client import Client
from ladapress.completion import jobs as job_ids
from ladapress.compress import download_artifact, interruptible, one_of, report, usage
from ladapress.display import Display, jobs_table
from ladapress.errors import LadapressError
from ladapress.listed import group, show, show_deleted, show_list
from ladapress.options import (
    After,
    AsJson,
    Before,
    Count,
    CreatedAfter,
    CreatedBefore,
    JobId,
    Named,
    Status,
    WithMetadata,
    moment,
    pairs,
)
from ladapress.types import Job

jobs = group("jobs", "List, watch and steer jobs; alone it lists them.")


@jobs.command("list")
def list_jobs(
    status: Status = None,
    name: Named = None,
    metadata: WithMetadata = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    limit: Count = 20,
    after: After = None,
    before: Before = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with Client() as client:
        show_list(
            client.jobs.list, jobs_table, limit=limit, as_json=as_json, status=one_of(Job, "status", status),
            name=name, metadata=pairs("--metadata", metadata), created_after=moment(created_after),
            created_before=moment(created_before), after=after, before=before,
        )  # fmt: skip


@jobs.command("show", no_args_is_help=True)
def show_job(job_id: JobId, as_json: AsJson = False) -> None:
    """Every field of a job."""
    with Client() as client:
        show(client.jobs.get(job_id), as_json=as_json)


@jobs.command(no_args_is_help=True)
def watch(job_id: JobId, as_json: AsJson = False) -> None:
    """Show a job until it has ended; Ctrl-C leaves the job running."""
    display = Display()
    with Client() as client:
        try:
            job = compress.watch(client, job_id, display)
        except KeyboardInterrupt:
            display.say(f"{job_id} goes on; ladapress cancel {job_id} stops it")
            raise
    report(job, display)
    if as_json:
        print(outcome.line(outcome.summary(job)), flush=True)
    raise typer.Exit(outcome.exit_code(job))


@jobs.command(no_args_is_help=True)
def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Stop a job; nothing of it is published."""
    with Client() as client:
        _told(client.jobs.cancel(job_id), as_json=as_json)


@jobs.command(no_args_is_help=True)
def pause(job_id: JobId, as_json: AsJson = False) -> None:
    """Have a job give its worker back; resume goes on from its last checkpoint."""
    with Client() as client:
        _told(client.jobs.pause(job_id), as_json=as_json)


@jobs.command(no_args_is_help=True)
def resume(job_id: JobId, as_json: AsJson = False) -> None:
    """Queue a paused job again."""
    with Client() as client:
        _told(client.jobs.resume(job_id), as_json=as_json)


@jobs.command(no_args_is_help=True)
def retry(job_id: JobId, as_json: AsJson = False) -> None:
    """Start a new job of the same request; prints its id."""
    with Client() as client:
        job = client.jobs.retry(job_id)
    print(job.model_dump_json() if as_json else job.id)


@jobs.command(no_args_is_help=True)
def delete(job_id: JobId, as_json: AsJson = False) -> None:
    """Delete an ended job with its artifacts."""
    with Client() as client:
        client.jobs.delete(job_id)
    show_deleted(job_id, as_json=as_json)


@jobs.command(no_args_is_help=True)
def download(
    what: Annotated[str, typer.Argument(metavar="JOB_OR_ARTIFACT", autocompletion=job_ids, help="job_... or art_...")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files; made where it is missing.")],
    as_json: AsJson = False,
) -> None:
    """Fetch what a job delivered, every file checked by its sha256."""
    display = Display()
    folders = [out]
    with Client() as client, interruptible():
        if what.startswith("art_"):
            download_artifact(client, client.artifacts.get(what), out, display)
        elif what.startswith("job_"):
            job = client.jobs.get(what)
            if not job.points:
                raise LadapressError.local("nothing_to_download", f"{what} is {job.status} and has no artifact")
            folders = compress.download(client, job, out, display)
        else:
            raise usage(f"{what}: must be the id of a job (job_...) or of an artifact (art_...)")
    print(json.dumps({"folders": [*map(str, folders)]}) if as_json else out)


def _told(job: Job, *, as_json: bool) -> None:
    print(job.model_dump_json() if as_json else job.status)
