"""The `ladapress` command. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done, 1 failed or refused, 2 usage, 3 a target was missed, 130 cancelled or interrupted.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from ladapress import outcome, verifier
from ladapress import reproduce as reproducing
from ladapress.client import Client
from ladapress.compress import (
    Order,
    ask,
    download,
    download_artifact,
    interruptible,
    one_of,
    recipe_file,
    report,
    run,
    rungs,
    targets,
    usage,
    watch,
)
from ladapress.display import Display, jobs_table, plan_table
from ladapress.errors import LadapressError
from ladapress.known_keys import KnownKeys
from ladapress.options import (
    AsJson,
    Device,
    Eval,
    LabelColumn,
    MetricName,
    ModelDir,
    Out,
    Outputs,
    PairColumn,
    PresetName,
    RecipeFile,
    Rungs,
    Seed,
    Select,
    Targets,
    TaskName,
    TextColumn,
    Train,
    Unlabelled,
    named,
)
from ladapress.plugins import add_plugins
from ladapress.push_command import push
from ladapress.trust import GivenKeys, ServiceKeys
from ladapress.types import JobRequest, Resources
from ladapress.uploads import media_type, task_of

app = typer.Typer(
    name="ladapress",
    help="Compression as a service for BERT-like encoders. LADAPRESS_URL names the service, LADAPRESS_API_KEY its key.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain errors: one line that a log or a test can be searched for
    pretty_exceptions_enable=False,
)


@app.command(no_args_is_help=True)
def compress(
    model_dir: ModelDir,
    train: Train,
    eval: Eval,  # noqa: A002  # the option's name
    out: Out,
    select: Select = None,
    unlabelled: Unlabelled = None,
    text: TextColumn = None,
    text_pair: PairColumn = None,
    label: LabelColumn = None,
    task: TaskName = None,
    metric: MetricName = None,
    preset: PresetName = None,
    recipe: RecipeFile = None,
    target: Targets = None,
    ladder: Rungs = None,
    output: Outputs = None,
    seed: Seed = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Upload a model and its data, compress, watch, download and verify the smaller model."""
    order = Order(
        model=model_dir,
        data=_roles(train, eval, select, unlabelled),
        out=out,
        options={
            **_options(model_dir, task, metric, preset, recipe, target, ladder, seed, device),
            "outputs": output or [],
        },
        columns=named(text=text, text_pair=text_pair, label=label),
    )
    with Client() as client:
        code, result = run(client, order, Display())
    if as_json:
        print(outcome.line(result), flush=True)
    raise typer.Exit(code)


@app.command(no_args_is_help=True)
def plan(
    model_dir: ModelDir,
    train: Train,
    eval: Eval,  # noqa: A002  # the option's name
    select: Select = None,
    unlabelled: Unlabelled = None,
    text: TextColumn = None,
    text_pair: PairColumn = None,
    label: LabelColumn = None,
    task: TaskName = None,
    metric: MetricName = None,
    preset: PresetName = None,
    recipe: RecipeFile = None,
    target: Targets = None,
    ladder: Rungs = None,
    seed: Seed = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Say what compressing would give: sizes and milliseconds, before it runs."""
    order = Order(
        model=model_dir,
        data=_roles(train, eval, select, unlabelled),
        options=_options(model_dir, task, metric, preset, recipe, target, ladder, seed, device),
        columns=named(text=text, text_pair=text_pair, label=label),
    )
    with Client() as client:
        found = ask(client, order, Display())
    if as_json:
        print(found.model_dump_json(), flush=True)
    else:
        Console(soft_wrap=True).print(plan_table(found))
    missed = all(point.target_met is False for point in found.points)
    raise typer.Exit(outcome.MISSED if missed else outcome.DONE)


def _roles(train: Path, evaluation: Path, select: Path | None, unlabelled: Path | None) -> dict[str, Path]:
    roles = {"train": train, "eval": evaluation, "select": select, "unlabelled": unlabelled}
    return {role: file for role, file in roles.items() if file is not None}


def _options(
    model: Path,
    task: str | None,
    metric: str | None,
    preset: str | None,
    recipe: Path | None,
    target: list[str] | None,
    ladder: str | None,
    seed: int | None,
    device: str | None,
) -> dict[str, object]:
    """The fields of a request beside model and data."""
    if (preset is None) == (recipe is None):
        raise usage("give exactly one of --preset NAME and --recipe FILE")
    chosen_device = one_of(Resources, "device", device)
    return {
        "task": one_of(JobRequest, "task", task or task_of(model)),
        "metric": one_of(JobRequest, "metric", metric),
        "preset": preset,
        "recipe": None if recipe is None else recipe_file(recipe),
        "target": targets(target or ()),
        "ladder": rungs(ladder),
        "seed": seed,
        "resources": None if chosen_device is None else {"device": chosen_device},
    }


@app.command()
def jobs(
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with Client() as client:
        page = client.jobs.list(limit=limit)
    if as_json:
        print(json.dumps(page.answer))
    else:
        Console(soft_wrap=True).print(jobs_table(page.data))


@app.command("watch")
def watch_command(job_id: Annotated[str, typer.Argument()], as_json: AsJson = False) -> None:
    """Show a job until it has ended; Ctrl-C leaves the job running."""
    display = Display()
    with Client() as client:
        try:
            job = watch(client, job_id, display)
        except KeyboardInterrupt:
            display.say(f"{job_id} goes on; ladapress cancel {job_id} stops it")
            raise
    report(job, display)
    if as_json:
        print(outcome.line(outcome.summary(job)), flush=True)
    raise typer.Exit(outcome.exit_code(job))


@app.command()
def cancel(job_id: Annotated[str, typer.Argument()]) -> None:
    """Stop a job; nothing of it is published."""
    with Client() as client:
        print(client.jobs.cancel(job_id).status)


@app.command("download")
def download_command(
    what: Annotated[str, typer.Argument(metavar="JOB_OR_ARTIFACT", help="job_... or art_...")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files; made where it is missing.")],
) -> None:
    """Fetch what a job delivered, every file checked by its sha256."""
    display = Display()
    with Client() as client, interruptible():
        if what.startswith("art_"):
            download_artifact(client, client.artifacts.get(what), out, display)
        elif what.startswith("job_"):
            job = client.jobs.get(what)
            if not job.points:
                raise LadapressError.local("nothing_to_download", f"{what} is {job.status} and has no artifact")
            download(client, job, out, display)
        else:
            raise usage(f"{what}: must be the id of a job (job_...) or of an artifact (art_...)")
    print(out)


@app.command(no_args_is_help=True)
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of one artifact, as it was downloaded.")],
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Trust the keys in FILE (PEM, JWK or JWK Set); ask no service.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Pin what LADAPRESS_URL publishes now, in place of what is pinned.")
    ] = False,
    rows: Annotated[Path | None, typer.Option("--eval", metavar="FILE", help="Measure on these rows again.")] = None,
    text: TextColumn = None,
    text_pair: PairColumn = None,
    label: LabelColumn = None,
    as_json: AsJson = False,
) -> None:
    """Check every byte of an artifact and who signed it; nothing in DIR is run.

    Without --key, the keys of the service that LADAPRESS_URL names are trusted: pinned on first use, then those that
    a pinned key endorses.
    """
    columns = named(text=text, text_pair=text_pair, label=label)
    if not folder.is_dir():
        raise usage(f"{folder}: must be a folder")
    if key is not None and trust:
        raise usage("give one of --key FILE and --trust")
    if rows is None and columns:
        raise usage("--text, --text-pair and --label name columns of --eval FILE, which is not given")
    if rows is not None:
        media_type(rows)
    with Client() as client:
        known = KnownKeys()
        ring = GivenKeys.read(key) if key else ServiceKeys(client, known, verifier.warn, anew=trust)
        code, verdict = verifier.run(folder, ring, rows, columns)
    verifier.tell(verdict, as_json=as_json)
    raise typer.Exit(code)


@app.command(no_args_is_help=True)
def reproduce(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of one artifact, as it was downloaded.")],
    model: Annotated[Path, typer.Option(metavar="MODEL_DIR", help="The model that it was made of.")],
    train: Train,
    eval: Eval,  # noqa: A002  # the option's name
    select: Select = None,
    unlabelled: Unlabelled = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the new artifact here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train an artifact again from the inputs that its manifest names, and compare: same weights, or same metric."""
    with TemporaryDirectory() as scratch, Client() as client:
        data = _roles(train, eval, select, unlabelled)
        asked = reproducing.order(folder, model, data, out or Path(scratch) / "again")
        code, result = reproducing.reproduce(client, asked, folder, Display())
    if as_json:
        print(outcome.line(result), flush=True)
    raise typer.Exit(code)


app.command(no_args_is_help=True)(push)


def _version(asked: bool) -> None:
    if asked:
        print(f"ladapress {version('ladapress')}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and exit.")] = False,
) -> None:
    """Compression as a service for BERT-like encoders."""


def main() -> int:
    """Entry point of the `ladapress` command."""
    add_plugins(app, sys.argv[1:])
    try:
        app(prog_name="ladapress")
    except LadapressError as error:
        print(f"ladapress: {error}", file=sys.stderr)
        return outcome.USAGE if error.code == "usage" else outcome.FAILED
    return outcome.DONE
