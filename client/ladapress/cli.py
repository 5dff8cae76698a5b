"""The `ladapress` command. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done, 1 failed or refused, 2 usage, 3 a target was missed, 130 cancelled or interrupted.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from ladapress import outcome, verifier
from ladapress import reproduce as reproducing
from ladapress.account_commands import usage as usage_command
from ladapress.account_commands import webhooks
from ladapress.client import Client
from ladapress.completion import completion, words
from ladapress.compress import Order, ask, one_of, recipe_file, run, rungs, targets, usage
from ladapress.display import Display, plan_table
from ladapress.errors import LadapressError
from ladapress.input_commands import datasets, models
from ladapress.job_commands import cancel, download, jobs, watch
from ladapress.known_keys import KnownKeys
from ladapress.mcp_command import mcp
from ladapress.options import (
    AsJson,
    Cache,
    Device,
    Eval,
    IdempotencyKey,
    JobName,
    LabelColumn,
    Metadata,
    MetricName,
    ModelDir,
    Out,
    Outputs,
    PairColumn,
    PresetName,
    Push,
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
    pairs,
    pushed,
)
from ladapress.plugins import add_plugins
from ladapress.push_command import push as push_command
from ladapress.trust import GivenKeys, ServiceKeys
from ladapress.types import JobRequest, Resources
from ladapress.uploads import media_type, task_of

app = typer.Typer(
    name="ladapress",
    help="Compression as a service for BERT-like encoders. LADAPRESS_URL names the service, LADAPRESS_API_KEY its key.",
    no_args_is_help=True,
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
    push: Push = None,
    cache: Cache = True,
    name: JobName = None,
    metadata: Metadata = None,
    idempotency_key: IdempotencyKey = None,
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
            "push": pushed(push),
            "cache": None if cache else "bypass",
            "name": name,
            "metadata": pairs("--metadata", metadata),
        },
        columns=named(text=text, text_pair=text_pair, label=label),
        key=idempotency_key,
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


app.command("push", no_args_is_help=True)(push_command)
app.command()(mcp)
app.command("usage")(usage_command)
app.command("watch", no_args_is_help=True)(watch)
app.command("cancel", no_args_is_help=True)(cancel)
app.command("download", no_args_is_help=True)(download)
app.command("completion", no_args_is_help=True)(completion)
for group in (jobs, models, datasets, webhooks):
    app.add_typer(group)


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
    add_plugins(app, words() or sys.argv[1:])
    try:
        app(prog_name="ladapress")
    except LadapressError as error:
        print(f"ladapress: {error}", file=sys.stderr)
        return outcome.USAGE if error.code == "usage" else outcome.FAILED
    return outcome.DONE
